'use strict';
// Loads the handler that `_HANDLER` names: `folder/module.function`, the module in any of the forms that AWS accepts.

const fs = require('fs');
const path = require('path');
const errors = require('./errors.cjs');
const { searchForImports, searchBeforeImport } = require('./paths.cjs');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');

exports.load = async function load(root, name) {
  if (name.includes('..')) {
    throw new errors.MalformedHandlerName(
      `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`,
    );
  }
  const base = path.basename(name);
  const folder = name.slice(0, name.indexOf(base));
  const dot = base.indexOf('.');
  if (dot < 0) throw new errors.MalformedHandlerName('Bad handler');
  const [moduleName, handlerPath] = [base.slice(0, dot), base.slice(dot + 1)];
  searchForImports();
  const loaded = await loadModule(root, folder, moduleName);
  let handler = member(loaded, handlerPath);
  if (!handler && errors.promisesOnly) handler = member(loaded?.default, handlerPath);
  if (!handler) throw new errors.HandlerNotFound(`${name} is undefined or not exported`);
  if (typeof handler !== 'function') throw new errors.HandlerNotFound(`${name} is not a function`);
  check(handler);
  return handler;
};

function check(handler) {
  if (handler[STREAMING]) {
    throw new errors.MalformedStreamingHandler('awslambda.streamifyResponse: Freehold does not stream responses yet.');
  }
  if (errors.promisesOnly && handler.length >= 3) {
    throw new errors.CallbackHandlerDeprecated(
      'The nodejs24.x runtime and later ones have no callback-style handlers. Make the handler an async function ' +
      'with the arguments (event, context), or use nodejs22.x.',
    );
  }
}

function member(value, handlerPath) {
  return handlerPath.split('.').reduce((inner, key) => inner && inner[key], value);
}

async function loadModule(root, folder, name) {
  try {
    return await locate(root, folder, name);
  } catch (error) {
    if (error instanceof SyntaxError) {
      const fault = new errors.UserCodeSyntaxError(String(error));
      // With the place in the function's code, which the fault's own does not show.
      fault.stack = errors.promisesOnly ? error.stack : `${fault.name}: ${error}\n${error.stack}`;
      throw fault;
    }
    if (error?.code === 'MODULE_NOT_FOUND') throw new errors.ImportModuleError(String(error));
    throw error;
  }
}

async function locate(root, folder, name) {
  const file = path.resolve(root, folder, name);
  if (isFile(file)) return requireOrImport(file);
  if (isFile(`${file}.js`)) {
    return inModulePackage(path.dirname(file)) ? importModule(`${file}.js`) : requireOrImport(`${file}.js`);
  }
  if (isFile(`${file}.mjs`)) return importModule(`${file}.mjs`);
  if (isFile(`${file}.cjs`)) return require(`${file}.cjs`);
  if (fs.existsSync(file)) return require(file);
  // As any other module is found.
  return require(require.resolve(name, { paths: [root, path.join(root, folder)] }));
}

function isFile(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

async function requireOrImport(file) {
  try {
    return require(file);
  } catch (error) {
    if (error?.code !== 'ERR_REQUIRE_ESM' && error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
    return importModule(file);
  }
}

function importModule(file) {
  searchBeforeImport();
  return import(file);
}

// Whether the nearest package.json says that `.js` files are ES modules.
function inModulePackage(folder) {
  for (let at = folder; !at.endsWith('/node_modules'); at = path.dirname(at)) {
    const file = path.join(at, 'package.json');
    if (isFile(file)) {
      try {
        return JSON.parse(fs.readFileSync(file, 'utf8'))?.type === 'module';
      } catch (error) {
        console.warn(`${file} cannot be read and is not considered:`, error);
        return false;
      }
    }
    if (at === path.dirname(at)) break;
  }
  return false;
}
