/**
 * Real nodes with strange company: seeds that are gone, an id that is taken, a clock a day ahead, a certificate of another node.
 * @module-tag night
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { JsonObject } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { newAuthority } from "../fakes/certificate.ts";
import { FabricAuthority, openTestTransport } from "../fakes/fabric-transport.ts";
import { helloOf } from "../fakes/fabric-values.ts";
import { FaultyCluster } from "../fakes/faulty-cluster.ts";
import { textOf } from "../fakes/node.ts";
import { CommandProcess, onFreePorts } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const DAY_MS = 86_400_000;

function keyOf(name: string): JsonObject {
  return { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" };
}

async function register(cluster: FaultyCluster, at: string, name: string, version = 1): Promise<void> {
  const entry = { key: keyOf(name), targets: [{ host: "10.0.0.1", port: version }] };
  expect((await cluster.at(at).door.ask("register", { entries: [entry], ttl: "600s" })).code).toBe("OK");
}

async function unregister(cluster: FaultyCluster, at: string, name: string): Promise<void> {
  expect((await cluster.at(at).door.ask("unregister", { keys: [keyOf(name)] })).response["removed"]).toBe(1);
}

/** Waits until all nodes show just these, each as `name port health`. */
async function allShow(cluster: FaultyCluster, ...wanted: readonly string[]): Promise<void> {
  await until(`all show ${wanted.join(", ")}`, async () => {
    const faults: string[] = [];
    for (const { name } of cluster.running) {
      const shown = [...(await cluster.dump(name))].map(([entry, { targets, health }]) => {
        const [target] = (targets ?? []) as JsonObject[];
        return `${entry} ${Number(target?.["port"])} ${textOf(health).replace("HEALTH_STATUS_", "").toLowerCase()}`;
      });
      if (shown.toSorted().join() !== wanted.toSorted().join()) faults.push(`${name}: ${shown.join(", ")}`);
    }
    return faults;
  });
}

test("all seeds gone after the start: the rest goes on, a newcomer joins by any of it, and the seed finds back", async () => {
  await using cluster = await FaultyCluster.open({ count: 4, seed: "seeds" });
  const bySeed = { flags: ["--join", cluster.gateOf("n1")] };
  await cluster.runWith("n1", { flags: ["--join", cluster.gateOf("n1")] });
  await Promise.all(["n2", "n3"].map((name) => cluster.runWith(name, bySeed)));
  await cluster.meet();
  await cluster.kill("n1");
  await cluster.meet();
  await register(cluster, "n2", "a");
  await allShow(cluster, "a 1 healthy");
  await cluster.runWith("n4", { flags: ["--join", `${cluster.gateOf("n1")},${cluster.gateOf("n3")}`] });
  await cluster.meet();
  await register(cluster, "n4", "b");
  await allShow(cluster, "a 1 healthy", "b 1 healthy");
  // Nobody's seed but its own: the others look for it where it was.
  await cluster.runWith("n1", { flags: ["--join", cluster.gateOf("n1")] });
  await cluster.meet();
  await allShow(cluster, "a 1 healthy", "b 1 healthy");
  // A node that gets no CPU for a moment may be suspect at one look, and contradicts.
  await expect.poll(() => cluster.peersOf("n1")).toEqual(["n2 alive", "n3 alive", "n4 alive"]);
});

test("a second node with an id that is taken: the first one stays, what it holds too, and operators are told", async () => {
  // Who does not answer for so long is silent, and then its id may be taken: longer than a busy machine keeps anybody waiting.
  await using cluster = await FaultyCluster.open({ count: 3, seed: "ids", fabric: { interval: "3s", ping_timeout: "2s" } });
  await cluster.run("n1", "n2");
  await cluster.meet();
  await register(cluster, "n1", "first");
  const self = ["--node-id", "n1", "--cluster-id", "c1", "--ephemeral", "--host", "127.0.1.3", "--advertise-host", "127.0.0.1"];
  const seeds = ["--join", `${cluster.gateOf("n1")},${cluster.gateOf("n2")}`];
  const port = cluster.gateOf("n3").split(":")[1] ?? "";
  const second = new CommandProcess(["serve", "-o", "json", ...onFreePorts([...self, ...seeds, "--fabric-port", port])]);
  try {
    await second.errorLine(/duplicate_node.*two nodes have the id n1/);
    expect(second.stdout).toBe("");
    const told = () => /duplicate_node/.test(cluster.at("n2").process.command.stderr);
    await until("told", told);
    await register(cluster, "n2", "more");
    await register(cluster, "n1", "yet");
    await allShow(cluster, "first 1 healthy", "more 1 healthy", "yet 1 healthy");
    await cluster.meet();
    const { stdout: explained } = await cluster.at("n2").process.run(["mesh", "peers", "explain", "n1", "-o", "json"]);
    expect(explained).toContain(cluster.gateOf("n1"));
  } finally {
    second.kill("SIGKILL");
    await second.finished();
  }
});

test("a clock a day ahead is told of and moves nobody else's; whatever it stamped can be changed and taken out, by its node too", async () => {
  await using cluster = await FaultyCluster.open({ count: 3, seed: "clock" });
  const preload = cluster.file(
    "day-ahead.mjs",
    `const { now } = Date; Date.now = () => now() + ${DAY_MS};
     const Real = Date; globalThis.Date = class extends Real { constructor(...of) { of.length > 0 ? super(...of) : super(Real.now()); } };`,
  );
  await cluster.run("n1");
  await cluster.runWith("n3", { wrapper: ["env", `NODE_OPTIONS=--import=file://${preload}`] });
  await cluster.meet();
  // As soon as two others say that its clock is wrong it takes no writes any more.
  for (const name of ["changed", "gone", "kept"]) await register(cluster, "n3", name);
  await cluster.run("n2");
  await cluster.meet();
  await allShow(cluster, "changed 1 healthy", "gone 1 healthy", "kept 1 healthy");
  for (const name of ["n1", "n2"]) {
    await until("told", () => /clock_beyond_skew/.test(cluster.at(name).process.command.stderr));
    await until("counted", async () => /^mesh_clock_skew_total(\{\})? [1-9]/m.test(await cluster.metrics(name)));
  }
  await register(cluster, "n1", "near");
  const near = (await cluster.dump("n3")).get("near") ?? (await cluster.dump("n1")).get("near");
  expect(Math.abs(Date.parse(textOf(near?.["updatedAt"])) - Date.now())).toBeLessThan(DAY_MS / 2);
  await register(cluster, "n1", "changed", 2);
  await unregister(cluster, "n2", "gone");
  await allShow(cluster, "changed 2 healthy", "kept 1 healthy", "near 1 healthy");
  await register(cluster, "n1", "gone", 3);
  await allShow(cluster, "changed 2 healthy", "gone 3 healthy", "kept 1 healthy", "near 1 healthy");
  // Its clock put right, what it stamped before is still a day ahead.
  await cluster.kill("n3");
  await cluster.run("n3");
  await cluster.meet();
  await register(cluster, "n3", "near", 4);
  await allShow(cluster, "changed 2 healthy", "gone 3 healthy", "kept 1 healthy", "near 4 healthy");
  await register(cluster, "n1", "near", 5);
  await unregister(cluster, "n1", "kept");
  await allShow(cluster, "changed 2 healthy", "gone 3 healthy", "near 5 healthy");
});

/** Knocks, and waits until the node has hung up. */
function knock(socket: Socket, word?: string): Promise<void> {
  socket.on("error", () => {}); // Cut, as is expected.
  if (word !== undefined) socket.write(word);
  socket.resume();
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

test("over TLS, whoever has no certificate, another authority's or speaks plain text is counted, logged and audited with its address", async () => {
  await using cluster = await FaultyCluster.open({ count: 1, seed: "knocking" });
  const tls = new FabricAuthority().issue("n1");
  const at = (part: string, bytes: Uint8Array) => cluster.file(`n1.${part}`, Buffer.from(bytes).toString("utf8"));
  const fabric = { cert_file: at("cert", tls.cert), key_file: at("key", tls.key), ca_file: at("ca", tls.clientCa), join_timeout: "3s" };
  await cluster.runWith("n1", { flags: ["--config", cluster.file("n1.json", { node: { cluster_id: "c1" }, fabric })] });
  const [host = "", port = ""] = cluster.fabricOf("n1").split(":");
  const to = { host, port: Number(port) };
  const other = newAuthority("another authority").issue("n2", { uris: ["spiffe://waymark/waymark/cluster/c1/node/n2"] });
  const strangers = async () => {
    const [, count = "0"] = /^mesh_refused_total\{what="stranger"\} (\d+)/m.exec(await cluster.metrics("n1")) ?? [];
    return Number(count);
  };
  // A port check, as load balancers do, is nobody.
  const check = connect(to);
  await once(check, "connect");
  check.end();
  await once(check, "close");
  await knock(connectTls({ ...to, rejectUnauthorized: false }));
  await until("no certificate", async () => (await strangers()) === 1);
  await knock(connectTls({ ...to, rejectUnauthorized: false, ...other }));
  await until("another authority's", async () => (await strangers()) === 2);
  await knock(connect(to), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  await until("plain text", async () => (await strangers()) === 3);
  for (let n = 0; n < 20; n++) await knock(connectTls({ ...to, rejectUnauthorized: false }));
  await until("each is counted", async () => (await strangers()) === 23);
  await until("audited", async () => {
    const { stdout } = await cluster.at("n1").process.run(["audit", "list", "-o", "json"]);
    const whys = ["peer did not return a certificate", "the peer's certificate was rejected", "wrong version number"];
    return [...whys, "127.0.0.1"].every((why) => stdout.includes(why)) ? [] : [stdout.slice(0, 2_000)];
  });
  // Told ten times a minute, whatever comes.
  expect(cluster.at("n1").process.command.stderr.match(/stranger_refused/g)?.length).toBe(10);
});

test("over TLS, whoever has another node's certificate is not let in as somebody else, and the audit has it", async () => {
  await using cluster = await FaultyCluster.open({ count: 2, seed: "certificates" });
  const authority = new FabricAuthority();
  for (const name of cluster.names) {
    const tls = authority.issue(name);
    const at = (part: string, bytes: Uint8Array) => cluster.file(`${name}.${part}`, Buffer.from(bytes).toString("utf8"));
    const fabric = { cert_file: at("cert", tls.cert), key_file: at("key", tls.key), ca_file: at("ca", tls.clientCa) };
    const config = cluster.file(`${name}.json`, {
      node: { cluster_id: "c1" },
      fabric: { ...fabric, join_timeout: "3s" },
    });
    await cluster.runWith(name, { flags: ["--config", config] });
  }
  await cluster.meet();
  const thief = await openTestTransport({ tls: authority.issue("n9") });
  thief.greeting = { kind: "hello", hello: helloOf("n2", { clusterId: "c1", region: "local" }) };
  thief.transport.openLink(2, cluster.fabricOf("n1"));
  await until("turned away", () => thief.links.get(2)?.closed !== undefined);
  expect(JSON.stringify(thief.links.get(2)?.frames)).toContain("wrong_identity");
  await thief.transport.stop(200);
  const stranger = await openTestTransport({ tls: new FabricAuthority().issue("n2") });
  stranger.transport.openLink(2, cluster.fabricOf("n1"));
  await until("not even heard", () => stranger.unopened.has(2));
  await stranger.transport.stop(200);
  await until("audited", async () => {
    const { stdout } = await cluster.at("n1").process.run(["audit", "list", "-o", "json"]);
    return stdout.includes("its certificate is for node n9") ? [] : [stdout.slice(0, 500)];
  });
  await register(cluster, "n2", "web");
  await allShow(cluster, "web 1 healthy");
});
