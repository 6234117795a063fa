import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readSnapshotFile, setAsideSnapshotFile, touchSnapshotFile, writeSnapshotFile } from "../../src/store/snapshot-file.io.ts";

const home = mkdtempSync(join(tmpdir(), "waymark-snapshot-"));
afterAll(() => rmSync(home, { recursive: true }));

function blocks(count: number, fill = 1): Uint8Array[] {
  return Array.from({ length: count }, () => new Uint8Array(100_000).fill(fill));
}

const options = { maxBytes: 10_000_000, signal: new AbortController().signal };

test("what was written whole is read; there is never a part of it", async () => {
  const path = join(home, "whole");
  expect(await readSnapshotFile(path, 10)).toBeUndefined();
  expect(await writeSnapshotFile(path, blocks(25), options)).toBe(2_500_000);
  expect(await writeSnapshotFile(path, blocks(3, 2), options)).toBe(300_000);
  expect((await readSnapshotFile(path, 1e6))?.bytes).toEqual(readFileSync(path));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  await expect(readSnapshotFile(path, 1000)).rejects.toThrow("it has 300000 bytes, more than the maximum of 1000");
  await touchSnapshotFile(path, 5000);
  expect(await readSnapshotFile(path, 1e6)).toMatchObject({ savedWallMs: 5000 });
  await setAsideSnapshotFile(path);
  expect([existsSync(path), existsSync(`${path}.ignored`)]).toEqual([false, true]);
});

test.each([
  { why: "it grows too large", options: { ...options, maxBytes: 1_000_000 } },
  { why: "it is told to stop", options: { ...options, signal: AbortSignal.abort() } },
])("what stood there stands when $why", async ({ options: given }) => {
  const path = join(home, "stands");
  await writeSnapshotFile(path, blocks(1, 7), options);
  expect(await writeSnapshotFile(path, blocks(25), given)).toBeUndefined();
  expect(readFileSync(path)).toEqual(Buffer.from(blocks(1, 7)[0] ?? []));
  expect(readdirSync(home).filter((name) => name.endsWith(".new"))).toEqual([]);
});

test("when making it fails, what stood there stands", async () => {
  const path = join(home, "failing");
  function* failing(): Generator<Uint8Array> {
    yield* blocks(2);
    throw new Error("no more");
  }
  await writeSnapshotFile(path, blocks(1), options);
  await expect(writeSnapshotFile(path, failing(), options)).rejects.toThrow("no more");
  expect(statSync(path).size).toBe(100_000);
  expect(existsSync(`${path}.new`)).toBe(false);
});

test("the file is as old as what is in it from the moment it is there, also when nobody comes to say so afterwards", async () => {
  const path = join(home, "old");
  await writeSnapshotFile(path, blocks(1), { ...options, rightWallMs: 7000 });
  expect(await readSnapshotFile(path, 1e6)).toMatchObject({ savedWallMs: 7000 });
});
