/** Files that settings name, at the ends of their sizes. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readBounded, readNamedFile } from "../../src/lib/named-file.io.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-named-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const CHUNK_BYTES = 1 << 16;

test.each([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 200_000])(
  "a file of %i bytes is read whole where so many are allowed",
  (size) => {
    const path = join(folder, `of-${size}`);
    const bytes = Buffer.from(Array.from({ length: size }, (_, i) => i % 251));
    writeFileSync(path, bytes);
    for (const maxBytes of [size, size + 1, 1 << 20]) expect(readBounded(path, maxBytes).bytes?.equals(bytes)).toBe(true);
    if (size > 0)
      expect(readBounded(path, size - 1)).toEqual({
        bytes: undefined,
        fault: `it has ${size} bytes; specify a regular file of at most ${size - 1} bytes`,
      });
  },
);

test.skipIf(!existsSync("/proc/cpuinfo"))("of a file that does not say how long it is no part is taken for all of it", () => {
  const { length } = readBounded("/proc/cpuinfo", 1 << 20).bytes ?? Buffer.alloc(0);
  expect(length).toBeGreaterThan(100);
  for (const maxBytes of [50, length - 1])
    expect(readBounded("/proc/cpuinfo", maxBytes)).toEqual({
      bytes: undefined,
      fault: `it has more than ${maxBytes} bytes; specify a regular file of at most ${maxBytes} bytes`,
    });
});

test.skipIf(!existsSync("/proc/self/fd"))("none stays open, whatever became of it", () => {
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  const small = join(folder, "small");
  writeFileSync(small, "abc");
  const open = () => readdirSync("/proc/self/fd").length;
  const before = open();
  for (let n = 0; n < 20; n++)
    for (const path of [small, pipe, folder, "/dev/null", join(folder, "absent")]) readBounded(path, 2 + (n % 2));
  expect(open()).toBeLessThan(before + 10);
  expect(() => readNamedFile({ setting: "a.b", path: pipe, maxBytes: 1 })).toThrow(
    `a.b: ${pipe}: it is a named pipe; specify a regular file`,
  );
});
