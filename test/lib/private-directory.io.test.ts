/** Files that only this user may read: what other users have put into the directory does not receive their content. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { writePrivateFile } from "../../src/lib/private-directory.io.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-private-"));
afterAll(() => rmSync(folder, { recursive: true }));

test.each(["a file that all may read", "a link to another file"])("%s is at the place of the temporary file", (what) => {
  const directory = mkdtempSync(join(folder, "d"));
  const [path, other] = [join(directory, "key.pem"), join(directory, "other")];
  writeFileSync(other, "other");
  if (what.startsWith("a link")) symlinkSync(other, `${path}.new`);
  else writeFileSync(`${path}.new`, "");
  chmodSync(`${path}.new`, 0o666);
  writePrivateFile(path, "secret");
  expect([readFileSync(path, "utf8"), statSync(path).mode & 0o777]).toEqual(["secret", 0o600]);
  expect([readFileSync(other, "utf8"), readdirSync(directory).toSorted()]).toEqual(["other", ["key.pem", "other"]]);
});

test("a long text is written as a whole, and replaces the file", () => {
  const path = join(folder, "long");
  const text = "é".repeat(1 << 20);
  writePrivateFile(path, "short");
  writePrivateFile(path, text);
  expect(readFileSync(path, "utf8") === text).toBe(true);
});
