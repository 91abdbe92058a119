import { expect, test } from 'bun:test'
import { createRegistry, registryFaults } from './registry.ts'

test('faults of the variables are named', () => {
  const url = 'http://127.0.0.1:8081'
  expect(registryFaults({})).toEqual([])
  expect(registryFaults({ SCHEMA_REGISTRY_URL: `${url},${url}/b`, SCHEMA_REGISTRY_TOKEN: 't' })).toEqual([])
  expect(registryFaults({ SCHEMA_REGISTRY_URL: 'http://:x' })).toHaveLength(1)
  expect(registryFaults({ SCHEMA_REGISTRY_TOKEN: 't' })).toHaveLength(1)
  expect(registryFaults({ SCHEMA_REGISTRY_URL: url, SCHEMA_REGISTRY_USERNAME: 'u' })).toHaveLength(1)
  expect(
    registryFaults({
      SCHEMA_REGISTRY_URL: url,
      SCHEMA_REGISTRY_USERNAME: 'u',
      SCHEMA_REGISTRY_PASSWORD: 'p',
      SCHEMA_REGISTRY_TOKEN: 't',
    }),
  ).toHaveLength(1)
})

test('its name has no query', () => {
  const url = 'http://127.0.0.1:8081/?key=s3cret,http://127.0.0.1:8082'
  expect(createRegistry({ SCHEMA_REGISTRY_URL: url }).name).toBe(
    'http://127.0.0.1:8081/?(redacted), http://127.0.0.1:8082',
  )
})
