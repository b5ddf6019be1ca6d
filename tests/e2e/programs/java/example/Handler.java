package example;

import java.security.MessageDigest;

/** A handler that answers what it was started with. */
public final class Handler {
    private static int count = 0;

    public static String handle(String event) throws Exception {
        if (event.equals("\"fail\"")) throw new IllegalStateException("as asked");
        count += 1;
        System.out.println("event " + count);
        // Reads the machine's own settings of what is secure, which lie outside of its folder on some distributions.
        int digest = MessageDigest.getInstance("SHA-256").digest(event.getBytes("UTF-8")).length;
        return "{\"event\": " + event + ", \"count\": " + count + ", \"digest\": " + digest
            + ", \"java\": \"" + System.getProperty("java.specification.version") + "\", \"heap\": " + Runtime.getRuntime().maxMemory()
            + ", \"kind\": \"" + System.getenv("AWS_EXECUTION_ENV") + "\", \"folder\": \"" + System.getProperty("user.dir") + "\"}";
    }
}
