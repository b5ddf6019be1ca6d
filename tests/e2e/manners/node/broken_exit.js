console.log('leaving');
process.exit(9);
