/** The file of the summaries that a node held: what comes back at a restart, and that no file keeps a node from starting. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SummariesFile } from "../../../src/node/regions/summaries-file.io.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { SummarySpace, summaryOf, written } from "../../fakes/summary-space.ts";

let home = "";
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "waymark-summaries-"));
});
afterEach(() => rmSync(home, { recursive: true }));

const SAVED = { monoMs: 5000, wallMs: 1_800_000_000_000 };
const path = () => join(home, "summaries.snapshot");

/** What a node holds: two summaries, and a beacon that it had 2 s ago. */
function held(): SummarySpace {
  const space = new SummarySpace("n1", 1);
  for (const name of ["cart", "pay"]) space.put(summaryOf(name), 7, SAVED);
  space.beacon("far", 9, { ...SAVED, monoMs: SAVED.monoMs - 2000 });
  return space;
}

const blocksOf = (space: SummarySpace) => [written({ space } as Parameters<typeof written>[0], SAVED)];

/** The file as a process has it. `monoMs` of the next start has nothing to do with that of the one before. */
function opened(more: { directory?: string | undefined; maxBytes?: number; laterMs?: number } = {}) {
  const { laterMs = 0, maxBytes = 1_000_000 } = more;
  const time = { monoMs: 77, wallMs: SAVED.wallMs + laterMs };
  const said: string[] = [];
  const say = (fields: object, message: string) => void said.push(`${message}${"fault" in fields ? ` (${String(fields.fault)})` : ""}`);
  const log = { debug: () => {}, info: say, warn: say };
  const file = new SummariesFile({ directory: "directory" in more ? more.directory : home, maxBytes, log, now: () => time });
  const restore = async (nodeId = "n1") => {
    const space = new SummarySpace(nodeId, 2);
    await file.restore({ replica: space.replica, stamper: space.stamper, receipts: space, clusterId: "c1", bounds: BOUNDS });
    const receiptMonoMs = space.receiptOf("far");
    return { view: space.view(), ageMs: receiptMonoMs === undefined ? undefined : time.monoMs - receiptMonoMs };
  };
  return { file, said, restore };
}

test("what was held is back after a restart, and its source is as old as if the node had not been away", async () => {
  const space = held();
  await opened().file.keep(blocksOf(space));
  const { restore, said } = opened({ laterMs: 600_000 });
  expect(await restore()).toEqual({ view: space.view(), ageMs: 602_000 });
  expect(said).toEqual(["restored summaries from disk"]);
  // A clock that went back: nobody knows how long it was away.
  expect(await opened({ laterMs: -1000 }).restore()).toEqual({ view: space.view(), ageMs: undefined });
  expect(await opened({ directory: undefined }).restore()).toEqual({ view: [], ageMs: undefined });
});

test.each([
  { what: "is cut off", spoil: (bytes: Buffer) => bytes.subarray(0, -9), fault: "it is truncated or modified at byte" },
  { what: "was changed", spoil: (bytes: Buffer) => bytes.fill(1, 60, 70), fault: "it is truncated or modified at byte" },
  { what: "is empty", spoil: () => Buffer.alloc(0), fault: "it is truncated: its last block is missing" },
  { what: "is of another program", spoil: () => Buffer.from("something new"), fault: "it is truncated or modified at byte 0" },
  { what: "is another node's", spoil: (bytes: Buffer) => bytes, nodeId: "n2", fault: "it belongs to node n1" },
  { what: "is larger than its bound", spoil: (bytes: Buffer) => bytes, maxBytes: 100, fault: "more than the maximum of 100" },
])("a file that $what is told of, set aside and ignored, and the next one takes its place", async ({ spoil, fault, nodeId, maxBytes }) => {
  await opened().file.keep(blocksOf(held()));
  const spoilt = Buffer.from(spoil(readFileSync(path())));
  writeFileSync(path(), spoilt);
  const { restore, said, file } = opened(maxBytes === undefined ? {} : { maxBytes });
  expect((await restore(nodeId)).view).toEqual([]);
  expect(said).toEqual([expect.stringContaining("summaries on disk ignored and set aside: peers will send them again (") as string]);
  expect(said[0]).toContain(fault);
  expect([existsSync(path()), readFileSync(`${path()}.ignored`)]).toEqual([false, spoilt]);
  if (maxBytes !== undefined) return;
  await file.keep(blocksOf(held()));
  expect((await opened().restore()).view).toHaveLength(3);
});

function* broken(): Generator<Uint8Array> {
  yield Uint8Array.of(1);
  throw new Error("an origin was forgotten meanwhile");
}

test.each([
  { what: "is too large", maxBytes: 100, blocks: () => blocksOf(held()), says: ["not written to disk: they exceed the size limit"] },
  {
    what: "cannot be read to its end",
    maxBytes: 1_000_000,
    blocks: () => broken(),
    says: ["not written to disk"],
  },
])("what $what is not written, and the file before stays", async ({ blocks, maxBytes, says }) => {
  await opened().file.keep(blocksOf(held()));
  const before = readFileSync(path());
  const { file, said } = opened({ maxBytes });
  await file.keep(blocks());
  expect(said).toEqual(says.map((words) => expect.stringContaining(words) as string));
  expect([readFileSync(path()), readdirSync(home)]).toEqual([before, ["summaries.snapshot"]]);
});

test("a process that ends while it writes leaves the file before, and what it wrote is in no one's way", async () => {
  const space = held();
  await opened().file.keep(blocksOf(space));
  const before = readFileSync(path());
  // As kill -9 leaves it.
  writeFileSync(`${path()}.new`, before.subarray(0, 50));
  expect((await opened().restore()).view).toEqual(space.view());
  const { file } = opened();
  const late = file.keep(blocksOf(new SummarySpace("n1", 1)));
  await file.close();
  await late;
  expect(readFileSync(path())).toEqual(before);
  await opened().file.keep(blocksOf(space));
  expect(readdirSync(home)).toEqual(["summaries.snapshot"]);
});
