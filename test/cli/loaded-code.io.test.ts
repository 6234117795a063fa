/** A client command loads little: each file and package costs time at each start (docs/decisions/0022-dist-is-a-pack.md). */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packProgram, unpackedPackages } from "../../scripts/pack.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-pack-"));
const packed = join(folder, "src", "packed");
/** The text of each file of the pack, by name. */
const texts = new Map<string, string>();

beforeAll(async () => {
  await packProgram(folder, unpackedPackages());
  for (const name of readdirSync(packed).filter((file) => file.endsWith(".js"))) texts.set(name, readFileSync(join(packed, name), "utf8"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function contains(text: string, module: string): boolean {
  return new RegExp(`^//(?:#region)? ${module}$`, "m").test(text);
}

/** All that is loaded with these modules: the names of files of the pack, and of packages. */
function loadedWith(...modules: readonly string[]): ReadonlySet<string> {
  const loaded = new Set<string>();
  const open = [...texts].flatMap(([name, text]) => (modules.some((module) => contains(text, module)) ? [name] : []));
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (loaded.has(name)) continue;
    loaded.add(name);
    for (const [, from = ""] of (texts.get(name) ?? "").matchAll(/^import (?:[^"]* from )?"([^"]+)";$/gm))
      open.push(from.replace("./", ""));
  }
  return loaded;
}

const query = (): ReadonlySet<string> => loadedWith("src/main/cli.ts", "src/client/channel.io.ts", "src/cli/verbs/discovery.ts");

test("a query loads no package that is not in the pack", () => {
  const packages = [...query()].filter((name) => !texts.has(name) && !name.startsWith("node:"));
  expect(packages).toEqual([]);
});

test.each([
  "src/config/settings.ts",
  "src/catalog/entry/codec.ts",
  "src/server/edge/listener.io.ts",
  "src/cli/entries/file.ts",
  "src/cli/messages.ts",
  "src/client/failure.ts",
  "src/client/follow.io.ts",
  "src/client/tls.io.ts",
  "src/lib/versions.ts",
  "gen/waymark/dns/v1/dns_pb.js",
  "gen/waymark/policy/v1/policy_pb.js",
])("a query does not load %s, which the program has", (module) => {
  const names = [...texts].filter(([, text]) => contains(text, module)).map(([name]) => name);
  expect(names).not.toEqual([]);
  expect(names.filter((name) => query().has(name))).toEqual([]);
});

// Its load and its first call take a fifth of the time of a query. The program calls servers with src/grpc/client.
test("a query does not load grpc-js, and neither does any other command", () => {
  const isLoading = (text: string) => /^\/\/(?:#region)? node_modules\/@grpc\/|from "@grpc\//m.test(text);
  expect([...texts].filter(([, text]) => isLoading(text)).map(([name]) => name)).toEqual([]);
});

// Descriptors take a quarter of the time of a query, and these are a sixth of them.
test("the program does not contain the messages of buf.validate", () => {
  expect([...texts].filter(([, text]) => contains(text, "gen/buf/validate/validate_pb.js")).map(([name]) => name)).toEqual([]);
});

// The exports of node:http include WebSocket: whoever imports it loads undici.
test("no file of the pack imports node:http", () => {
  expect([...texts].filter(([, text]) => /from "node:http";/.test(text)).map(([name]) => name)).toEqual([]);
});
