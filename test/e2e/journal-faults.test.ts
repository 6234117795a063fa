/**
 * The journal of a process that is killed, and of one whose disk is slow, full or faulty: what was acknowledged is there afterwards.
 * @module-tag path
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { batch, openAndReplay, put, temporaryDirectory } from "../store/journal-fixture.ts";

const CHILD = join(import.meta.dirname, "../store/journal-child.ts");
const hasStrace = spawnSync("strace", ["-V"]).status === 0;
const isRoot = process.getuid?.() === 0;

interface Line {
  readonly acked?: readonly number[];
  readonly refused?: readonly number[];
  readonly error?: string;
  readonly ms?: number;
  readonly done?: boolean;
  readonly maxGapMs?: number;
}

/** Runs the child to its end, which is a kill by its own hand. `inject` are strace's fault options. */
function run(
  directory: string,
  work: { readonly batches: number; readonly rows: number; readonly inject: readonly string[] },
): readonly Line[] {
  const child = [process.execPath, CHILD, directory, String(work.batches), String(work.rows), "0"];
  const options = work.inject.flatMap((fault) => ["-e", `inject=${fault}`]);
  const [command = "", ...args] =
    work.inject.length === 0 ? child : ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", ...options, ...child];
  const { stdout, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: 280_000 });
  const lines = stdout.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as Line]));
  if (lines.at(-1)?.done !== true) throw new Error(`the child did not come to its end: ${stderr}`);
  return lines;
}

async function storedSeqs(directory: string): Promise<readonly number[]> {
  const { journal, rows } = await openAndReplay(directory);
  await journal.close();
  return rows.map((row) => row.seq);
}

const acked = (lines: readonly Line[]) => lines.flatMap((line) => line.acked ?? []);
const refused = (lines: readonly Line[]) => lines.flatMap((line) => line.refused ?? []);

test("Durability: after kill -9 in the middle of writes every acknowledged row is there and nothing that was not sent", async () => {
  using directory = temporaryDirectory();
  const rows = 20;
  let acknowledged = 0;
  for (let round = 0; round < 5; round++) {
    const child = spawn(process.execPath, [CHILD, directory.path, "1000000", String(rows), "0"], { stdio: ["ignore", "pipe", "inherit"] });
    const exited = once(child, "exit");
    let batches = 0;
    for await (const text of createInterface(child.stdout)) {
      const line = JSON.parse(text) as Line;
      acknowledged = Math.max(acknowledged, ...(line.acked ?? []));
      if (++batches === 30 + round * 7) child.kill("SIGKILL");
    }
    await exited;
    const found = await storedSeqs(directory.path);
    expect(found.length).toBeGreaterThanOrEqual(acknowledged);
    expect(found.length).toBeLessThanOrEqual(acknowledged + rows); // One batch was on its way.
    expect(found).toEqual(found.map((_, i) => i + 1));
    acknowledged = found.length;
  }
});

// A start makes 7 syncs and 13 writes. Then each batch makes one sync and five writes, the last of them to the watermark, where a fault does not refuse the batch.
test.runIf(hasStrace).each(
  some([
    { fault: "a failing fsync", inject: ["fsync,fdatasync:error=EIO:when=8"] },
    { fault: "five failing fsyncs", inject: ["fsync,fdatasync:error=EIO:when=9..13"] },
    { fault: "every third fsync failing", inject: ["fsync,fdatasync:error=EIO:when=8+3"] },
    { fault: "a full disk", inject: ["pwrite64:error=ENOSPC:when=20..32"] },
    { fault: "a write error", inject: ["pwrite64:error=EIO:when=26"] },
    { fault: "write errors now and then", inject: ["pwrite64:error=EIO:when=21+7"] },
  ]),
)("acknowledged and found after a crash are the same with $fault", async ({ inject }) => {
  using directory = temporaryDirectory();
  const before = acked(run(directory.path, { batches: 1, rows: 10, inject: [] }));
  const lines = run(directory.path, { batches: 25, rows: 10, inject });
  expect(refused(lines).length).toBeGreaterThan(0);
  expect(acked(lines).length).toBeGreaterThan(0);
  expect(lines.find((line) => line.error !== undefined)?.error).toMatch(
    /store_unavailable: the journal could not be written: (disk I\/O error|database or disk is full)/,
  );
  expect(await storedSeqs(directory.path)).toEqual([...before, ...acked(lines)]);
});

test.runIf(hasStrace)("with fsync taking a second the writer waits and the event loop does not", { tags: ["night"] }, () => {
  using directory = temporaryDirectory();
  run(directory.path, { batches: 1, rows: 1, inject: [] });
  const work = () => run(directory.path, { batches: 3, rows: 10, inject: ["fsync,fdatasync:delay_enter=1000000"] });
  const lines = work();
  expect(Math.min(...lines.flatMap((line) => line.ms ?? []))).toBeGreaterThan(1000);
  // Some 10 ms on a quiet machine, tens on a busy one; a loop that waits for the disk stands still for a second and more, each time.
  let maxGapMs = lines.at(-1)?.maxGapMs ?? 0;
  for (let tries = 1; tries < 5 && maxGapMs >= 900; tries++) maxGapMs = work().at(-1)?.maxGapMs ?? 0;
  expect(maxGapMs).toBeLessThan(900);
});

test.runIf(isRoot)("a full disk refuses writes and nothing else; they work again when there is room", async () => {
  using directory = temporaryDirectory();
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", directory.path]);
  try {
    const data = join(directory.path, "data");
    const { journal } = await openAndReplay(data);
    const record = new Uint8Array(1000);
    const stored: number[] = [];
    let seq = 0;
    const write = async () => {
      const puts = Array.from({ length: 5 }, () => put(`k${++seq}`, seq, { record }));
      await journal.write(batch({ puts }));
      stored.push(...puts.map((one) => one.seq));
    };
    await write();
    const filler = join(directory.path, "filler");
    expect(() => writeFileSync(filler, new Uint8Array(1 << 20))).toThrow("ENOSPC");
    await expect(
      (async () => {
        for (;;) await write();
      })(),
    ).rejects.toMatchObject({ reason: "store_unavailable", details: { retryMs: 1000 } });
    await expect(write()).rejects.toThrow("database or disk is full");
    expect(journal.stats()).toMatchObject({ isFailing: true, failures: 2, lastError: "database or disk is full" });
    rmSync(filler);
    await write();
    expect(journal.stats()).toMatchObject({ isFailing: false, heldRows: stored.length });
    await journal.close();
    expect(await storedSeqs(data)).toEqual(stored);
  } finally {
    execFileSync("umount", [directory.path]);
  }
});
