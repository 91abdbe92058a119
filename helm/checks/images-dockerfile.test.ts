import { expect, test } from 'bun:test'
import { basesOf, environmentOfStage, stagesOf } from './images-dockerfile.ts'

const stages = stagesOf(`# a comment
FROM example.com/base:1 AS base
ENV A=1 \\
    B=2
FROM base AS one
ENV B=3
EXPOSE 80 90
`)

test('a stage has what it sets, on continued lines too, and what it exposes', () => {
  expect(stages).toEqual([
    { name: 'base', from: 'example.com/base:1', environment: { A: '1', B: '2' }, exposes: [] },
    { name: 'one', from: 'base', environment: { B: '3' }, exposes: [80, 90] },
  ])
})

test('a stage’s environment goes over that of the stage below', () => {
  expect(environmentOfStage(stages, 'one')).toEqual({ A: '1', B: '3' })
})

test('bases are what is no stage', () => {
  expect(basesOf(stages)).toEqual(['example.com/base:1'])
})
