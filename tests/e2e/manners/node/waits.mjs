console.log('loading');
const wait = await new Promise((done) => setTimeout(() => done('waited'), 5));
export const handler = async () => wait;
