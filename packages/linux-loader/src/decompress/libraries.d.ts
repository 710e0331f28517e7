/** What this package uses of libraries that have no types of their own. */

/** An Emscripten module with FFmpeg's LZO1X decoder. */
declare module 'lzo-wasm/lzo-wasm.js' {
  interface LzoModule {
    readonly HEAPU8: Uint8Array
    _malloc(size: number): number
    _free(pointer: number): void
    /** Returns a new buffer of `outputSize` bytes, or throws. */
    _decompress(input: number, inputSize: number, outputSize: number): number
  }
  export default function createModule(options: {
    wasmBinary: Uint8Array
    printErr: (text: string) => void
  }): Promise<LzoModule>
}

declare module 'seek-bzip' {
  interface Input {
    readByte(): number
    read(target: Uint8Array, offset: number, length: number): number
  }
  interface Bunzip {
    decode(input: Input, output: { writeByte(byte: number): void }): void
  }
  const Bunzip: Bunzip
  export default Bunzip
}
