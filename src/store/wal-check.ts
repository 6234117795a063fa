/**
 * Distinguishes a damaged SQLite write-ahead log from a log that was truncated by a crash. SQLite itself treats the first invalid frame as the
 * end, so a flipped bit would silently undo every batch after it. Layout: https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
 */

const HEAD_BYTES = 32;
const FRAME_HEAD_BYTES = 24;
const MAGIC = 0x377f0682;

type WalSum = readonly [number, number];

/**
 * Returns a description of the damage in `log`. Undefined if a writer may have left the write-ahead log in this state. An incomplete last batch is
 * not damage: a crash may have occurred before the batch was acknowledged. Damage in the last two batches cannot be distinguished from this; the
 * watermark detects it (`commit-watermark.io.ts`).
 */
export function walDamage(log: Uint8Array): string | undefined {
  if (log.length < HEAD_BYTES) return undefined;
  const view = new DataView(log.buffer, log.byteOffset, log.byteLength);
  const magic = view.getUint32(0);
  const pageBytes = view.getUint32(8);
  const isLittleEndian = magic === MAGIC;
  const sum = (from: WalSum, at: number, end: number) => checksum(view, { from, at, end, isLittleEndian });
  const head = sum([0, 0], 0, 24);
  if ((magic & ~1) !== MAGIC || !isSum(head, view, 24)) {
    // The header is written and synced before any frame, so a header that is bad although there are frames was valid before.
    return log.length > HEAD_BYTES + FRAME_HEAD_BYTES ? "the header of its log is damaged" : undefined;
  }
  const frameBytes = FRAME_HEAD_BYTES + pageBytes;
  let before: WalSum = head;
  let brokenAt: number | undefined;
  let commitsInRun = 0;
  for (let at = HEAD_BYTES; at + frameBytes <= log.length; at += frameBytes) {
    const hasSalt = view.getUint32(at + 8) === view.getUint32(16) && view.getUint32(at + 12) === view.getUint32(20);
    const isGood = hasSalt && isSum(sum(sum(before, at, at + 8), at + FRAME_HEAD_BYTES, at + frameBytes), view, at + 16);
    if (!isGood) {
      brokenAt ??= at;
      commitsInRun = 0;
    } else if (brokenAt !== undefined && view.getUint32(at + 4) !== 0 && ++commitsInRun === 2) {
      // A second commit can follow a first one only if the first was on disk and was kept.
      return `its log is damaged at byte ${brokenAt}, and acknowledged batches follow`;
    }
    before = [view.getUint32(at + 16), view.getUint32(at + 20)];
  }
  return undefined;
}

function isSum(sum: WalSum, view: DataView, at: number): boolean {
  return sum[0] === view.getUint32(at) && sum[1] === view.getUint32(at + 4);
}

interface ChecksumRange {
  readonly from: WalSum;
  readonly at: number;
  readonly end: number;
  readonly isLittleEndian: boolean;
}

function checksum(view: DataView, { from, at, end, isLittleEndian }: ChecksumRange): WalSum {
  let [first, second] = from;
  // HOT: 16 MiB of log need two million iterations at a start after a crash.
  for (let word = at; word < end; word += 8) {
    first = (first + view.getUint32(word, isLittleEndian) + second) >>> 0;
    second = (second + view.getUint32(word + 4, isLittleEndian) + first) >>> 0;
  }
  return [first, second];
}
