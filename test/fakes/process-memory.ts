/** What stands in the memory of a process (proc(5), `/proc/PID/mem`), as a debugger reads it. Of processes that this one started. */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";

const CHUNK_BYTES = 16 * 1024 * 1024;
/** A region that is larger is one that was only set aside. Node's heap comes in pieces of at most some megabytes. */
const MAX_REGION_BYTES = 1024 * 1024 * 1024;

/** Those of the words that are in memory that the process may write: its heaps, stacks and buffers. */
export function inMemory(pid: number, words: readonly string[]): readonly string[] {
  // A string of V8 has one byte a character, or two.
  const forms = words.flatMap((word) => [Buffer.from(word, "latin1"), Buffer.from(word, "utf16le")].map((bytes) => ({ word, bytes })));
  const overlap = Math.max(...forms.map(({ bytes }) => bytes.length));
  const found = new Set<string>();
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  const memory = openSync(`/proc/${pid}/mem`, "r");
  try {
    for (const { from, to } of writableRegions(pid)) {
      for (let at = from; at < to; at += CHUNK_BYTES - overlap) {
        const length = readAt(memory, chunk, at, Math.min(CHUNK_BYTES, to - at));
        const part = chunk.subarray(0, length);
        for (const { word, bytes } of forms) if (!found.has(word) && part.includes(bytes)) found.add(word);
      }
    }
  } finally {
    closeSync(memory);
    // What was read is in our memory too, and a test may look there.
    chunk.fill(0);
  }
  return words.filter((word) => found.has(word));
}

function writableRegions(pid: number): readonly { readonly from: number; readonly to: number }[] {
  return readFileSync(`/proc/${pid}/maps`, "utf8")
    .split("\n")
    .flatMap((line) => {
      const [, from = "", to = ""] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      const region = { from: Number.parseInt(from, 16), to: Number.parseInt(to, 16) };
      return from !== "" && region.to - region.from <= MAX_REGION_BYTES ? [region] : [];
    });
}

/** The bytes that could be read: a region may have gone since it was listed. */
function readAt(memory: number, into: Buffer, at: number, length: number): number {
  try {
    return readSync(memory, into, 0, length, at);
  } catch {
    return 0;
  }
}
