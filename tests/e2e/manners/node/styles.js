'use strict';
// Handlers that end in the older ways: by a callback, by the context's functions, or by having nothing left to do.

const later = (ms, action) => setTimeout(action, ms);

const styles = {
  callsBack: (event, context, callback) => callback(null, 'called back'),
  callsBackLater: (event, context, callback) => later(5, () => callback(null, 'later')),
  callsBackError: (event, context, callback) => callback(new TypeError('by callback')),
  callsBackText: (event, context, callback) => callback('text'),
  callsBackTwice: (event, context, callback) => {
    callback(null, 'first');
    callback(null, 'second');
  },
  callsBackAndWorks: (event, context, callback) => {
    later(30, () => console.log('worked'));
    callback(null, 'answered');
  },
  callsBackAndLeaves: (event, context, callback) => {
    context.callbackWaitsForEmptyEventLoop = false;
    later(30_000, () => console.log('never'));
    callback(null, 'answered');
  },
  throws: () => {
    throw new Error('thrown');
  },
  returnsOnly: () => 'ignored',
  worksOnly: () => {
    later(5, () => console.log('worked'));
  },
  succeeds: (event, context) => context.succeed({ by: 'succeed' }),
  fails: (event, context) => context.fail(new Error('by fail')),
  failsWithNothing: (event, context) => context.fail(),
  isDone: (event, context) => context.done(null, 'by done'),
  isDoneWithError: (event, context) => context.done('text'),
  cannotBeWritten: (event, context, callback) => callback(null, 1n),
  throwsAfterCallback: (event, context, callback) => {
    callback(null, 'first');
    throw new Error('too late');
  },
};

exports.handler = (event, context, callback) => styles[event.case](event, context, callback);
