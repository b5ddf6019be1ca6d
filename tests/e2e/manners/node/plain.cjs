exports.handler = async () => 'a .cjs';
