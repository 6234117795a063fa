/** The verbs for the settings of running nodes. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, expect, test } from "vitest";
import { PeerStatus } from "../../gen/waymark/catalog/v1/peer_pb.js";
import type { SettingSchema } from "../../gen/waymark/control/v1/config_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];
afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

type SettingMessage = MessageInitShape<typeof SettingSchema>;

const COMMON: readonly SettingMessage[] = [
  { key: "dns.enabled", value: "true", origin: "default", valueType: "true or false", digest: "d1" },
  { key: "tls.cert_file", value: "cert.pem", origin: "file node.toml", valueType: "text", reloadable: true, perNode: true },
];

/** A node with these settings beside the common ones. */
async function startNode(nodeId: string, ...settings: readonly SettingMessage[]): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  fake.config.set("get", () => ({ settings: [...COMMON, ...settings], configDigest: "00aa", policyNumber: 7n, servedBy: nodeId }));
  return fake;
}

/** Two nodes, of which the first knows both. */
async function startTwo() {
  const a = await startNode("a", { key: "dns.max_ttl", value: "60s", digest: "d2" }, { key: "node.id", value: "a", perNode: true });
  const b = await startNode("b", { key: "dns.max_ttl", value: "90s", digest: "d3" }, { key: "node.id", value: "b", perNode: true });
  const entryOf = (nodeId: string, { address }: FakeDiscovery) => {
    const [host, port] = address.split(":");
    return { nodeId, targets: [{ name: "grpc", host: host ?? "", port: Number(port) }] };
  };
  a.nodes = [entryOf("b", b), entryOf("a", a)];
  a.mesh.set("list", () => ({ peers: [{ nodeId: "a", isSelf: true }, { nodeId: "b" }, { nodeId: "c", status: PeerStatus.DEAD }] }));
  const run = (...argv: readonly string[]) => waymark([...argv, "--server", a.address, "--token", "t1"]);
  return { a, b, run };
}

test.each([
  { name: "table", flags: [] },
  { name: "wide", flags: ["-o", "wide", "--origin", "non-default"] },
  { name: "json", flags: ["-o", "json", "--origin", "file"] },
])("mesh config show prints the settings of the server: $name", async ({ name, flags }) => {
  const { address } = await startNode("a");
  const { exit, stdout, stderr } = await waymark(["mesh", "config", "show", "--server", address, ...flags]);
  expect(exit).toBe(0);
  await expect(stderr + stdout).toMatchFileSnapshot(`../golden/cli/config-show.${name}.txt`);
});

test("mesh config diff asks both nodes with the caller's credential, and lists the settings that should be the same", async () => {
  const { a, b, run } = await startTwo();
  const { exit, stdout, stderr } = await run("mesh", "config", "diff", "a", "b");
  expect([exit, stderr]).toEqual([1, ""]);
  await expect(stdout).toMatchFileSnapshot("../golden/cli/config-diff.table.txt");
  for (const node of [a, b]) expect(node.calls.find(({ method }) => method === "get")?.authorization).toBe("Bearer t1");
});

test("mesh config diff --all-keys also lists settings that naturally differ, as JSON with the values by node", async () => {
  const { run } = await startTwo();
  const { exit, stdout } = await run("mesh", "config", "diff", "a", "b", "--all-keys", "-o", "json");
  expect(exit).toBe(1);
  expect(JSON.parse(stdout)).toEqual({
    settings: [
      { key: "dns.max_ttl", perNode: false, values: { a: "60s", b: "90s" } },
      { key: "node.id", perNode: true, values: { a: "a", b: "b" } },
    ],
  });
});

test("mesh config diff of equal nodes succeeds; an unknown node is exit code 5, and a node that is down 3", async () => {
  const { b, run } = await startTwo();
  const equal = await run("mesh", "config", "diff", "a", "a");
  expect([equal.exit, equal.stdout]).toEqual([0, ""]);
  expect(equal.stderr).toContain("have the same settings");
  const unknown = await run("mesh", "config", "diff", "a", "n9");
  expect([unknown.exit, unknown.stderr]).toEqual([5, expect.stringContaining("unknown node n9: the cluster of the server has a, b, c")]);
  expect(await run("mesh", "config", "diff", "a", "c")).toMatchObject({ exit: 3, stderr: expect.stringContaining("is dead") as unknown });
  b.stop();
  expect((await run("mesh", "config", "diff", "a", "b")).exit).toBe(3);
});

test("a draining node, which is not in ClusterMap, is asked at the address that it reports", async () => {
  const { a, b, run } = await startTwo();
  a.nodes = [];
  const urls = [`http://${a.address}`, `grpc://${b.address}`];
  a.mesh.set("list", () => ({
    peers: [
      { nodeId: "a", isSelf: true },
      { nodeId: "b", urls },
    ],
  }));
  expect((await run("mesh", "config", "diff", "a", "b")).exit).toBe(1);
  expect(b.calls).toHaveLength(1);
});

test("mesh config validate sends the text in its format, and lists the problems", async () => {
  const { a, run } = await startTwo();
  a.config.set("validate", () => ({
    problems: [{ key: "dns.x", message: "unknown key" }, { message: "too open" }],
    warnings: ["a warning"],
  }));
  const files = { "node.json": "{}", "node.yaml": "" };
  const check = (file: string, ...flags: readonly string[]) =>
    waymark(["mesh", "config", "validate", file, "--server", a.address, ...flags], { files });
  const { exit, stderr } = await check("node.json");
  expect([exit, stderr.trimEnd().split("\n")]).toEqual([2, ["error: dns.x: unknown key", "error: too open", "warning: a warning"]]);
  expect(a.calls.find(({ method }) => method === "validate")?.request).toMatchObject({ text: "{}", format: 2 });
  expect(JSON.parse((await check("node.json", "-o", "json")).stdout)).toMatchObject({ problems: [{ key: "dns.x" }, { key: "" }] });
  expect((await check("node.yaml")).stderr).toContain("the name must end in .toml or .json");
  a.config.delete("validate");
  expect(await run("mesh", "config", "validate", "no-such.toml")).toMatchObject({ exit: 2 });
  expect(await check("node.json")).toMatchObject({ exit: 0, stderr: expect.stringContaining("node.json is valid") as unknown });
});
