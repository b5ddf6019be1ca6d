exports.handler = async (event) => [__filename, event];
exports.api = { v1: { run: async () => 'nested' } };
exports.number = 7;
exports.Service = class {};
