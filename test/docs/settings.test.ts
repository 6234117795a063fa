/** The sample settings of the guides: each loads as a node would load it, and says what the guide says of it. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { anonymousAccess, exposureFaults, exposureWarnings } from "../../src/config/exposure.ts";
import { loadConfig, problemText } from "../../src/config/load.ts";

const FOLDER = "docs/examples/settings";
const FILES = readdirSync(FOLDER);

function settingsOf(name: string, text = readFileSync(`${FOLDER}/${name}`, "utf8")) {
  const loaded = loadConfig({ file: { name, text, format: "toml" }, env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error(loaded.problems.map(problemText).join("\n"));
  return loaded.effective.settings;
}

test("there are samples", () => {
  expect(FILES).toEqual(["dev.toml", "fleet.toml", "hub.toml", "lone.toml", "patient.toml", "production.toml", "spoke.toml"]);
});

test.each(FILES.filter((name) => !["fleet.toml", "patient.toml"].includes(name)))("%s is loaded without a problem", (name) => {
  expect(settingsOf(name).node.id).not.toBe(undefined);
});

test("patient.toml is the part of a file that a slow network needs", () => {
  expect(settingsOf("patient.toml").fabric).toMatchObject({ intervalMs: 2500, pingTimeoutMs: 2000, suspicionMultiplier: 2 });
});

test("fleet.toml completes production.toml with an etcd that only the cluster uses", () => {
  const [production, fleet] = ["production.toml", "fleet.toml"].map((name) => readFileSync(`${FOLDER}/${name}`, "utf8"));
  const { node, store, leadership } = settingsOf("node.toml", `${production}\n${fleet}`);
  expect([store.kind, store.prefix]).toEqual(["etcd", `/waymark/${node.clusterId}/`]);
  expect([store.caFile, store.user, store.passwordFile]).not.toContain(undefined);
  expect(leadership).toMatchObject({ leaseMs: 3000, candidate: true });
});

test("lone.toml is a node that can lead with a store of its own", () => {
  const { fabric, store, leadership, persistence } = settingsOf("lone.toml");
  expect([fabric.seeds, store.kind, persistence.ephemeral]).toEqual([[], "embedded", false]);
  expect(leadership.scopes).toEqual(["custom/svc.orders/cleaner"]);
});

test.each(["production.toml", "hub.toml", "spoke.toml"])("%s proves who is who, on both sorts of listeners", (name) => {
  const { fabric, tls, listen } = settingsOf(name);
  expect([fabric.certFile, fabric.keyFile, fabric.caFile, tls.certFile, tls.keyFile]).not.toContain(undefined);
  expect(listen).toMatchObject({ host: "0.0.0.0", insecure: false });
  expect(listen.advertiseHost).not.toBe(undefined);
  expect(fabric.seeds.length).toBeGreaterThan(1);
  expect(fabric.onStop).toBe("keep");
});

test("production.toml lets nobody in without a certificate or a token", () => {
  const settings = settingsOf("production.toml");
  const { tenants, tls } = settings;
  expect(anonymousAccess(settings)).toBe("none");
  expect([tenants.mode, tenants.credentials.length > 0, tls.caFile === undefined, tenants.trustedHeader]).toEqual([
    true,
    true,
    false,
    undefined,
  ]);
  expect([exposureFaults(settings), exposureWarnings(settings)]).toEqual([[], []]);
});

test("hub.toml and spoke.toml let each other in", () => {
  const [hub, spoke] = [settingsOf("hub.toml"), settingsOf("spoke.toml")];
  expect(hub.fabric.clusters).toContain(spoke.node.clusterId);
  expect(spoke.fabric.clusters).toContain(hub.node.clusterId);
});

test("the settings in the guide of resolvers fit the cluster of production.toml", () => {
  const guide = readFileSync("docs/guides/resolver.md", "utf8").replaceAll(/^ {3}/gm, "");
  const blocks = [...guide.matchAll(/^```toml\n# \/etc\/waymark\/(\w+\.toml)\n([^]*?)^```$/gm)];
  expect(blocks.map(([, name]) => name)).toEqual(["node.toml", "resolver.toml"]);
  const [[, , credential = ""] = [], [, name = "", text = ""] = []] = blocks;
  const digest = credential.replace("…64 hexadecimal digits…", "0".repeat(64));
  const production = settingsOf("production.toml", `${readFileSync(`${FOLDER}/production.toml`, "utf8")}\n${digest}`);
  expect(production.tenants.credentials.at(-1)?.roles).toEqual(["mesh.resolve"]);
  const { node, resolver } = settingsOf(name, text);
  expect([node.mode, node.clusterId, node.region]).toEqual(["resolver", production.node.clusterId, production.node.region]);
  expect(resolver.upstreams).toContain(`${production.listen.advertiseHost}:${production.listen.grpcPort}`);
  expect([resolver.tokenFile, resolver.tlsCaFile]).not.toContain(undefined);
});

test.each(["clustering.md", "production.md", "leaders.md"])("the guide %s names only samples that are there", (page) => {
  const named = readFileSync(`docs/guides/${page}`, "utf8").matchAll(/examples\/settings\/([a-z]+\.toml)/g);
  expect([...named].map(([, name]) => name).filter((name) => !FILES.includes(name ?? ""))).toEqual([]);
});
