console.log('loading');
function prepare() {
  throw new RangeError('too early');
}
prepare();
