export default { handler: async () => 'of the default export' };
