import { expect, test } from 'bun:test'
import { commit, machine, packageVersion, systemName } from './environment.ts'

test('a machine is told by what it is, not by its name', () => {
  const { cpu, cores, memoryBytes, kernel } = machine()
  expect(cpu).not.toBe('')
  expect(cores).toBeGreaterThan(0)
  expect(memoryBytes).toBeGreaterThan(100_000_000)
  expect(kernel).toMatch(/^Linux \d/)
})

test('a distribution is called what it calls itself', () => {
  expect(systemName('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')).toBe('Debian GNU/Linux 12 (bookworm)')
  expect(systemName('PRETTY_NAME=Plain\n')).toBe('Plain')
  expect(systemName('ID=x\n')).toBe('unknown')
})

test('a commit is a hash, or said to be unknown', () => {
  expect(commit()).toMatch(/^([0-9a-f]{40}( with changes)?|unknown)$/)
})

test('a dependency’s version is that which is installed', () => {
  expect(packageVersion('hono')).toMatch(/^\d+\.\d+\.\d+/)
})
