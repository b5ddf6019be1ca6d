'use strict';
// Lets ES modules find packages where `require` finds them: in the folders of `NODE_PATH`, after the function's own. Node.js
// itself leaves that variable to `require`; AWS's runtime searches it for both, and without it no ES module would find the
// AWS SDK or a layer.

const fs = require('fs');
const module_ = require('module');
const path = require('path');
const { pathToFileURL } = require('url');

// A package's name: no path, no URL, nothing of Node's own.
const PACKAGE = /^[^./:][^:]*$/;

// A module beside each `node_modules` of the path: what it could import, may be imported.
function parents(nodePath) {
  return (nodePath || '')
    .split(path.delimiter)
    .filter((folder) => path.basename(folder) === 'node_modules')
    .map((folder) => pathToFileURL(path.join(folder, '..', 'importer.mjs')).href);
}

function isMissing(error, specifier) {
  return error?.code === 'ERR_MODULE_NOT_FOUND' && PACKAGE.test(specifier);
}

function resolveSync(specifier, context, next) {
  try {
    return next(specifier, context);
  } catch (error) {
    if (!isMissing(error, specifier)) throw error;
    for (const parentURL of parents(process.env.NODE_PATH)) {
      try {
        return next(specifier, { ...context, parentURL });
      } catch (other) {
        if (!isMissing(other, specifier)) throw other;
      }
    }
    throw error;
  }
}

// For releases whose hooks run on a thread of their own: the same as a module of its own, so it carries all it needs.
const THREAD = (urls) => `data:text/javascript,${encodeURIComponent(`
const parents = ${JSON.stringify(urls)};
const missing = (error, specifier) => error?.code === 'ERR_MODULE_NOT_FOUND' && ${PACKAGE}.test(specifier);
export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (!missing(error, specifier)) throw error;
    for (const parentURL of parents) {
      try {
        return await next(specifier, { ...context, parentURL });
      } catch (other) {
        if (!missing(other, specifier)) throw other;
      }
    }
    throw error;
  }
}`)}`;

const areThereAny = () => parents(process.env.NODE_PATH).some((url) => fs.existsSync(new URL('node_modules', url)));

let searched = false;

// To be called before anything of the function is loaded.
exports.searchForImports = function searchForImports() {
  if (!module_.registerHooks) return;
  module_.registerHooks({ resolve: resolveSync });
  searched = true;
};

// To be called before an ES module is loaded. Where hooks need a thread, that thread takes longer to start than all else
// together: only where there is something to find.
exports.searchBeforeImport = function searchBeforeImport() {
  if (searched) return;
  searched = true;
  if (areThereAny()) module_.register(THREAD(parents(process.env.NODE_PATH)));
};
