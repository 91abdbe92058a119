export const docsPage = () => ({ html: '', headers: { 'content-type': 'text/html' } })
