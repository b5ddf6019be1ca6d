export const handler = async (event) => ['an ES module', event];
