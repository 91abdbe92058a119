import { expect, test } from 'bun:test'
import { librariesOf } from './programs.ts'

test('what librdkafka needs is read from how it was configured', () => {
  const config = 'CFLAGS+=\t-O2\nLIBS+=\t-lm -lcurl  -lzstd \nMKL_LIBS=-lnot\nLIBS+=-lz\n'
  expect(librariesOf(config)).toEqual(['-lm', '-lcurl', '-lzstd', '-lz'])
})
