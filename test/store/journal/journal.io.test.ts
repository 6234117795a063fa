import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openEphemeralJournal } from "../../../src/store/journal/journal.io.ts";
import { holdThreads } from "../held-threads.ts";
import { batch, keyOf, lease, open, openAndReplay, put, rowOf, temporaryDirectory } from "../journal-fixture.ts";

holdThreads("journal");

test("Durability: what was written is there after a reopen, newest row a key, in seq order", async () => {
  using directory = temporaryDirectory();
  {
    await using journal = (await openAndReplay(directory.path)).journal;
    await journal.write(
      batch({
        leases: [lease("L1", { principal: "söhne", idempotencyKey: "i1" })],
        puts: [put("a", 1, { leaseId: "L1" }), put("b", 2, { leaseId: "L1" })],
      }),
    );
    await journal.write(batch({ leases: [lease("L2", { ttlMs: 0 })], puts: [put("a", 3, { leaseId: "L2" })], floor: 2 }));
  }
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows).toEqual([rowOf(put("b", 2, { leaseId: "L1" })), rowOf(put("a", 3, { leaseId: "L2" }))]);
  expect(journal.restored).toMatchObject({ nodeId: "n1", generation: 7, lastSeq: 3, floor: 2, boots: 2 });
  expect(journal.restored.leases).toEqual([lease("L1", { principal: "söhne", idempotencyKey: "i1" }), lease("L2", { ttlMs: 0 })]);
  await journal.close();
});

test("one batch may put a key twice, forget it first, and grant and end a lease", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  await first.write(batch({ puts: [put("k", 1)] }));
  await first.write(
    batch({ forget: ["k"], leases: [lease("L")], puts: [put("k", 2), put("k", 3), put("j", 4, { leaseId: "L" })], endedLeases: ["L"] }),
  );
  await first.close();
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows).toEqual([rowOf(put("k", 3)), rowOf(put("j", 4))]);
  expect(journal.restored.leases).toEqual([]);
  await journal.close();
});

test("one batch may hold rows with leases and rows without, in any order", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  const puts = ["", "L", "", "M", "L", ""].map((leaseId, i) => put(`k${i}`, i + 1, { leaseId }));
  await first.write(batch({ leases: [lease("L"), lease("M")], puts }));
  await first.close();
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows).toEqual(puts.map(rowOf));
  await journal.close();
});

test("a collected tombstone is forgotten and the highest seq is not", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  await first.write(batch({ puts: [put("k", 1), put("gone", 2)] }));
  await first.write(batch({ forget: ["gone", "never there"], lastSeq: 5, floor: 2 }));
  expect(first.stats().heldRows).toBe(1);
  await first.close();
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows).toEqual([rowOf(put("k", 1))]);
  expect(journal.restored).toMatchObject({ lastSeq: 5, floor: 2 });
  await journal.close();
});

test("a lease written again keeps its rows", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  await first.write(batch({ leases: [lease("L")], puts: [put("k", 1, { leaseId: "L" })] }));
  await first.write(batch({ leases: [lease("L", { ttlMs: 5 })], lastSeq: 1 }));
  await first.close();
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows[0]?.leaseId).toBe("L");
  expect(journal.restored.leases).toEqual([lease("L", { ttlMs: 5 })]);
  await journal.close();
});

test("Restart: the generation stays with the disk, unless a new one is forced; rows keep their seqs", async () => {
  using directory = temporaryDirectory();
  const first = await openAndReplay(directory.path);
  await first.journal.write(batch({ puts: [put("k", 1)] }));
  await first.journal.close();
  const same = await openAndReplay(directory.path, { newGeneration: () => 8 });
  expect(same.journal.restored.generation).toBe(7);
  await same.journal.close();
  const forced = await openAndReplay(directory.path, { newGeneration: () => 8, forceNewGeneration: true });
  expect(forced.journal.restored).toMatchObject({ generation: 8, lastSeq: 1 });
  await forced.journal.close();
  const after = await openAndReplay(directory.path, { newGeneration: () => 9 });
  expect(after.journal.restored).toMatchObject({ generation: 8, boots: 4 });
  expect(after.rows).toEqual([rowOf(put("k", 1))]);
  await after.journal.close();
});

test("each start has a name that no other has, and knows those before it of which others may have heard", async () => {
  using directory = temporaryDirectory();
  const names: string[] = [];
  for (const earlier of [0, 1, 2]) {
    const { journal } = await openAndReplay(directory.path);
    expect(journal.restored.earlierBoots).toEqual(names.slice(0, earlier));
    await journal.nameStart();
    names.unshift(journal.restored.boot);
    await journal.close();
  }
  expect(new Set(names).size).toBe(3);
  // A start that nobody heard of, since it ended before it could write, or before it said anything, is none.
  await (await open(directory.path)).close();
  await (await openAndReplay(directory.path)).journal.close();
  const after = await openAndReplay(directory.path);
  expect(after.journal.restored.earlierBoots).toEqual(names);
  await after.journal.close();
});

test("the node id is the directory's; settings that say another are refused", async () => {
  using directory = temporaryDirectory();
  await (await openAndReplay(directory.path, { nodeId: "eu-1" })).journal.close();
  const kept = await open(directory.path);
  expect(kept.restored.nodeId).toBe("eu-1");
  await kept.close();
  await expect(open(directory.path, { nodeId: "eu-2" })).rejects.toThrow(
    `node.id is eu-2, but data directory ${directory.path} belongs to node eu-1`,
  );
  await (await open(directory.path, { nodeId: "eu-1" })).close();
});

test("a second opener is told who holds the directory, and gets it once that one has closed", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  await expect(open(directory.path)).rejects.toThrow(`${directory.path} is in use by process ${process.pid}`);
  await first.write(batch({ puts: [put("k", 1)] }));
  await first.close();
  const second = await openAndReplay(directory.path);
  expect(second.rows).toHaveLength(1);
  await second.journal.close();
});

test("batches handed over together are answered in order, one refused batch not stopping the next", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  const answers = await Promise.allSettled([
    first.write(batch({ puts: [put("a", 1)] })),
    first.write(batch({ puts: [put("lost", 2), put("lost too", 3, { leaseId: "never granted" })] })),
    first.write(batch({ puts: [put("b", 4)] })),
  ]);
  expect(answers.map((answer) => answer.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(answers[1]).toMatchObject({ reason: { reason: "store_unavailable", details: { retryMs: 1000 } } });
  expect(first.stats()).toMatchObject({ batches: 2, rows: 2, failures: 1, heldRows: 2, queueDepth: 0, isFailing: false });
  await first.close();
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows.map(keyOf)).toEqual(["a", "b"]);
  await journal.close();
});

test("close answers what was handed over; later writes are refused", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  const written = first.write(batch({ puts: [put("k", 1)] }));
  const closed = first.close();
  await expect(first.write(batch({ puts: [put("late", 2)] }))).rejects.toMatchObject({ reason: "store_unavailable" });
  await written;
  await closed;
  await first.close();
  expect((await openAndReplay(directory.path)).rows).toHaveLength(1);
});

test("writing before the replay is refused", async () => {
  using directory = temporaryDirectory();
  await using journal = await open(directory.path);
  await expect(journal.write(batch({ puts: [put("k", 1)] }))).rejects.toThrow("must be replayed");
});

test("a consumer that throws fails the replay with its error", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  await first.write(batch({ puts: [put("k", 1)] }));
  await first.close();
  await using journal = await open(directory.path);
  const boom = () => {
    throw new Error("boom");
  };
  await expect(journal.replay(boom)).rejects.toThrow("boom");
});

test("many more rows than a replay chunk come back, with large records among them", async () => {
  using directory = temporaryDirectory();
  const first = (await openAndReplay(directory.path)).journal;
  const puts = Array.from({ length: 5000 }, (_, i) =>
    put(`k${i}`, i + 1, i % 1000 === 0 ? { record: new Uint8Array(16_384).fill(i % 251) } : {}),
  );
  await first.write(batch({ puts }));
  await first.close();
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows).toEqual(puts.map(rowOf));
  await journal.close();
});

test("the log is bounded under load and begun again in idle time", async () => {
  using directory = temporaryDirectory();
  await using journal = (await openAndReplay(directory.path)).journal;
  const record = new Uint8Array(16_000);
  for (let i = 0; i < 40; i++) {
    await journal.write(batch({ puts: Array.from({ length: 40 }, (_, k) => put(`k${k}`, i * 40 + k + 1, { record })) }));
    expect(journal.stats().walBytes).toBeLessThan(20 << 20);
  }
  const [headBytes, frameBytes] = [32, 24 + 4096];
  await expect.poll(() => statSync(join(directory.path, "journal.db-wal")).size).toBe(headBytes + frameBytes);
});

test("a clean stop leaves one file, its checksum and the lock", async () => {
  using directory = temporaryDirectory();
  await (await openAndReplay(directory.path)).journal.close();
  expect(readdirSync(directory.path).toSorted()).toEqual(["journal.db", "journal.lock", "journal.sum"]);
  expect(statSync(join(directory.path, "journal.db")).mode & 0o077).toBe(0);
});

test("without a disk every start is a new generation and every write succeeds", async () => {
  let generation = 1;
  const options = { nodeId: undefined, newNodeId: () => "n1", newGeneration: () => generation++ };
  const first = openEphemeralJournal(options);
  await first.write(batch({ puts: [put("k", 1)] }));
  await first.close();
  const second = openEphemeralJournal(options);
  expect(second.restored).toMatchObject({ nodeId: "n1", generation: 2, lastSeq: 0, floor: 0, leases: [], boots: 1 });
});

test("a new generation is durable by itself, between two batches, and what was written stays", async () => {
  using directory = temporaryDirectory();
  {
    await using journal = (await openAndReplay(directory.path)).journal;
    const written = journal.write(batch({ puts: [put("a", 1)] }));
    const renewed = journal.renewGeneration(9);
    const after = journal.write(batch({ puts: [put("b", 2)] }));
    await Promise.all([written, renewed, after]);
  }
  const { journal, rows } = await openAndReplay(directory.path);
  expect([rows.map(keyOf), journal.restored.generation, journal.restored.lastSeq]).toEqual([["a", "b"], 9, 2]);
  await journal.close();
  await expect(journal.renewGeneration(10)).rejects.toMatchObject({ reason: "store_unavailable" });
});
