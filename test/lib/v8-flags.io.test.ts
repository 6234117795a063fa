import { execFileSync } from "node:child_process";
import { globSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { V8_FLAGS } from "../../src/lib/v8/flags.ts";

/** V8 ignores a flag it does not know: a newer Node.js without one would stop as long as before, and nothing would say so. */
test("V8 has every flag a node sets", () => {
  const options = execFileSync(process.execPath, ["--v8-options"], { encoding: "utf8" });
  const known = new Set(options.match(/^ {2}--[\w-]+/gm)?.map((option) => option.trim()));
  const names = V8_FLAGS.map((flag) => flag.replace(/^--no-/, "--").replace(/=.*/, ""));
  expect(names.filter((name) => !known.has(name))).toEqual([]);
});

interface Filled {
  readonly count: number;
  readonly slow: readonly string[];
}

/** Fills every message we have field by field, as protobuf-es does, and names those that V8 made hash tables of. */
const FILL = `
  const { create } = await import("@bufbuild/protobuf");
  const slow = [];
  let count = 0;
  for (const path of process.argv.slice(1)) {
    for (const schema of Object.values(await import(path))) {
      if (schema?.kind !== "message") continue;
      const message = create(schema);
      for (const { localName } of schema.members) message[localName] ??= 1;
      count += 1;
      if (!%HasFastProperties(message)) slow.push(schema.typeName);
    }
  }
  console.log(JSON.stringify({ count, slow }));
`;

test("no message of ours has more fields than V8 keeps as an object: each read of a hash table costs more", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const generated = globSync("gen/waymark/**/*_pb.js", { cwd: root }).map((path) => join(root, path));
  const args = [...V8_FLAGS, "--allow-natives-syntax", "--input-type=module", "--eval", FILL, ...generated];
  const { count, slow } = JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8", cwd: root })) as Filled;
  expect(count).toBeGreaterThan(100);
  expect(slow).toEqual([]);
});
