import { expect, test } from 'bun:test'
import { pinned } from './peers-python.ts'

test('versions are those that requirements.txt pins', () => {
  const requirements = '# What server.py uses\nfastapi==0.165.0\nuvicorn==0.54.0\n'
  expect(pinned(requirements, ['fastapi', 'aiokafka'])).toEqual({ fastapi: '0.165.0', aiokafka: 'unknown' })
})
