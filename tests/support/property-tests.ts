/**
 * Before every test file: property tests get what they ask for. By itself fast-check makes arrays and strings of ten elements
 * at most, whatever their maxLength.
 */
import fc from 'fast-check'

fc.configureGlobal({ defaultSizeToMaxWhenMaxSpecified: true })
