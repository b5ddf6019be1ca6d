package com.amazonaws.services.lambda.runtime.api.client;

import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;

/**
 * A stand-in for AWS's runtime interface client, under its name and started in its way: it speaks the real Runtime API, and
 * calls a static method that takes and gives text. What AWS's own does beyond that (events as objects, streams, logging) is
 * not tested with it.
 */
public final class AWSLambda {
    private static final String API = "http://" + System.getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/";

    public static void main(String[] arguments) throws Exception {
        Method handler;
        try {
            String[] parts = arguments[0].split("::");
            handler = Class.forName(parts[0]).getMethod(parts[1], String.class);
        } catch (ReflectiveOperationException | ArrayIndexOutOfBoundsException error) {
            post("init/error", errorOf(error), error.getClass().getName());
            throw error;
        }
        while (true) {
            HttpURLConnection next = open("invocation/next");
            String event = read(next.getInputStream());
            String path = "invocation/" + next.getHeaderField("Lambda-Runtime-Aws-Request-Id");
            try {
                post(path + "/response", (String) handler.invoke(null, event), null);
            } catch (InvocationTargetException error) {
                error.getCause().printStackTrace();
                post(path + "/error", errorOf(error.getCause()), error.getCause().getClass().getName());
            }
        }
    }

    private static String errorOf(Throwable error) {
        return "{\"errorMessage\": \"" + error.getMessage() + "\", \"errorType\": \"" + error.getClass().getName() + "\", \"stackTrace\": []}";
    }

    private static HttpURLConnection open(String path) throws IOException {
        return (HttpURLConnection) new URL(API + path).openConnection();
    }

    private static void post(String path, String body, String errorType) throws IOException {
        HttpURLConnection connection = open(path);
        connection.setRequestMethod("POST");
        connection.setDoOutput(true);
        if (errorType != null) connection.setRequestProperty("Lambda-Runtime-Function-Error-Type", errorType);
        connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
        read(connection.getInputStream());
    }

    private static String read(InputStream stream) throws IOException {
        return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
    }
}
