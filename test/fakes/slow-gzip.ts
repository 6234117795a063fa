/**
 * gzip that takes a hundred times as long to inflate as what a compressor makes: blocks of some forty bytes, each with tables of its own
 * (RFC 1951, 3.2.7), that become next to nothing.
 */
import { crc32 } from "node:zlib";

/** Lengths of the codes of literals 241 to 255 and of the end of a block, and of the sixteen distances. */
const CODE_LENGTHS = [15, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];
/** In which order a block says how long the codes of code lengths are: 16, 17, 18, 0, 8, and so on; all but 0, 16 and 17 have four bits. */
const LENGTHS_OF_LENGTHS = [0, 0, 4, 0, ...Array.from({ length: 15 }, () => 4)];
/** Of sixteen codes of four bits the last is that of 18, "so many zeros". */
const MANY_ZEROS = 15;
const BLOCKS_PER_UNIT = 8;

/** The byte that each literal stands for. */
const LITERAL = 255;

class Bits {
  readonly bytes: number[] = [];
  #byte = 0;
  #count = 0;

  /** The least bit first, as deflate writes numbers. */
  number(value: number, bits: number): void {
    for (let at = 0; at < bits; at++) this.#bit((value >> at) & 1);
  }

  /** The highest bit first, as deflate writes codes. */
  code(value: number, bits: number): void {
    for (let at = bits - 1; at >= 0; at--) this.#bit((value >> at) & 1);
  }

  #bit(bit: number): void {
    this.#byte |= bit << this.#count;
    this.#count += 1;
    if (this.#count < 8) return;
    this.bytes.push(this.#byte);
    this.#byte = 0;
    this.#count = 0;
  }
}

/** A block that says all its codes and then so many literals. */
function block(bits: Bits, literals: number): void {
  bits.number(0, 1);
  bits.number(2, 2);
  bits.number(0, 5);
  bits.number(15, 5);
  bits.number(15, 4);
  for (const length of LENGTHS_OF_LENGTHS) bits.number(length, 3);
  for (const zeros of [138, 103]) {
    bits.code(MANY_ZEROS, 4);
    bits.number(zeros - 11, 7);
  }
  for (const length of [...CODE_LENGTHS, ...CODE_LENGTHS]) bits.code(length - 1, 4);
  for (let count = 0; count < literals; count++) bits.code(0b10, 2);
  bits.code(0, 1);
}

/** Of about so many bytes, that inflate to `literals` for each of its blocks. */
export function slowGzip(bytes: number, literals: number): Buffer<ArrayBuffer> {
  const bits = new Bits();
  for (let count = 0; count < BLOCKS_PER_UNIT; count++) block(bits, literals);
  const unit = Buffer.from(bits.bytes);
  const units = Math.floor(bytes / unit.length);
  const size = units * BLOCKS_PER_UNIT * literals;
  const end = Buffer.alloc(8);
  end.writeUInt32LE(crc32(Buffer.alloc(size, LITERAL)), 0);
  end.writeUInt32LE(size, 4);
  return Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]),
    Buffer.alloc(units * unit.length, unit),
    Buffer.from([1, 0, 0, 0xff, 0xff]),
    end,
  ]);
}
