setTimeout(() => { throw new Error('soon'); }, 1);
const waited = await new Promise((done) => setTimeout(done, 3000));
export const handler = async () => 1;
