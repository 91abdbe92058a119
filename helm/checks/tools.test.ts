import { expect, test } from 'bun:test'
import { moduleRequiring } from './tools.ts'

const own = `// A comment (with brackets).
module example.com/a

go 1.26.0

require example.com/c v1.0.0 // for a test

require (
\texample.com/part v0.0.0 // indirect
\texample.com/published v1.2.3
)

replace example.com/c v1.0.0 => example.com/fork v1.0.1

replace (
\texample.com/part => ./staging/part
\texample.com/published => ../published
\texample.com/never => ./FORBIDDEN
)

exclude (
\t// Not this (see above).
\texample.com/d v1.0.0
)
`

test('a module of ours repeats the directives of another, with published versions for its folders', () => {
  expect(moduleRequiring({ go: 'example.com/a', version: 'v1.36.3' }, own).split('\n')).toEqual([
    'module tools',
    'go 1.26.0',
    'require example.com/a v1.36.3',
    'replace example.com/c v1.0.0 => example.com/fork v1.0.1',
    'replace example.com/part => example.com/part v0.36.3',
    'exclude example.com/d v1.0.0',
    '',
  ])
})
