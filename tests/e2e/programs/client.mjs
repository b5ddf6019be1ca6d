// What a deployment tool does, with the AWS SDK for JavaScript v3 as an outside client: the function's life, versions, an alias,
// a layer, a permission, tags; then the errors that such tools look at. Prints what it saw as one JSON object.
// usage: node client.mjs FUNCTION RUNTIME ZIP LAYER_ZIP; the server and the key come from the environment.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

// Outside of a function, NODE_PATH leads only `require` to the SDK.
const sdk = createRequire(import.meta.url)('@aws-sdk/client-lambda');
const [name, runtime, zip, layerZip] = process.argv.slice(2);
const client = new sdk.LambdaClient({ maxAttempts: 1 });
const send = (operation, input) => client.send(new sdk[`${operation}Command`]({ FunctionName: name, ...input }));
const seen = {};

await send('CreateFunction', {
  Runtime: runtime, Handler: 'index.handler', Role: 'arn:aws:iam::123456789012:role/r', Publish: true,
  Code: { ZipFile: readFileSync(zip) }, Tags: { made: 'by-javascript' },
});
await sdk.waitUntilFunctionActiveV2({ client, maxWaitTime: 30 }, { FunctionName: name });
await sdk.waitUntilPublishedVersionActive({ client, maxWaitTime: 30 }, { FunctionName: name, Qualifier: '1' });
const layer = await client.send(new sdk.PublishLayerVersionCommand({
  LayerName: `${name}-layer`, Content: { ZipFile: readFileSync(layerZip) }, CompatibleRuntimes: [runtime],
}));
await send('UpdateFunctionConfiguration', { Layers: [layer.LayerVersionArn], Environment: { Variables: { STAGE: 'two' } } });
await sdk.waitUntilFunctionUpdatedV2({ client, maxWaitTime: 30 }, { FunctionName: name });
seen.second = (await send('PublishVersion', { Description: 'with a layer' })).Version;
await send('CreateAlias', { Name: 'live', FunctionVersion: '1' });
await send('UpdateAlias', { Name: 'live', FunctionVersion: seen.second, Description: 'moved' });
await send('AddPermission', { StatementId: 's', Action: 'lambda:InvokeFunction', Principal: 's3.amazonaws.com', Qualifier: 'live' });
seen.policy = JSON.parse((await send('GetPolicy', { Qualifier: 'live' })).Policy).Statement[0].Principal;

seen.answers = {};
for (const Qualifier of ['1', 'live']) {
  const answer = await send('Invoke', { Qualifier, Payload: '{"from": "javascript"}', LogType: 'Tail' });
  seen.answers[Qualifier] = [answer.StatusCode, answer.ExecutedVersion, JSON.parse(answer.Payload.transformToString())];
}
const versions = [];
for await (const page of sdk.paginateListVersionsByFunction({ client, pageSize: 2 }, { FunctionName: name })) {
  versions.push(...page.Versions.map((each) => each.Version));
}
seen.versions = versions;
const { FunctionArn } = (await send('GetFunction', {})).Configuration;
seen.tags = (await client.send(new sdk.ListTagsCommand({ Resource: FunctionArn }))).Tags;

seen.errors = {};
for (const [operation, input] of [
  ['GetFunction', { Qualifier: '99' }],
  ['CreateAlias', { Name: 'live', FunctionVersion: '1' }],
  ['UpdateAlias', { Name: 'live', RevisionId: 'stale' }],
  ['DeleteFunction', { Qualifier: seen.second }],
]) {
  try {
    await send(operation, input);
    seen.errors[operation] = 'none';
  } catch (error) {
    seen.errors[operation] = [error.name, error.$metadata.httpStatusCode];
  }
}
await client.send(new sdk.DeleteLayerVersionCommand({ LayerName: `${name}-layer`, VersionNumber: layer.Version }));
await send('DeleteFunction', {});
console.log(JSON.stringify(seen));
