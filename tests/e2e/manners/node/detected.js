export const handler = async () => 'detected';
