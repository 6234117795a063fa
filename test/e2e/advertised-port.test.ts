/**
 * A node behind a forwarder: others reach its fabric at the port that it advertises.
 * @module-tag night
 */
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-advertised-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

function config(name: string, fabric: object): string {
  const path = join(HOME, `${name}.json`);
  writeFileSync(path, JSON.stringify({ fabric: { interval: "400ms", ping_timeout: "250ms", join_timeout: "1s", ...fabric } }));
  return path;
}

test("fabric.advertise_port is what other nodes are told and where they come", async () => {
  let toPort = 0;
  const through: Socket[] = [];
  const forwarder = createServer((socket) => {
    through.push(socket);
    const onward = connect(toPort, "127.0.0.1");
    socket.pipe(onward).pipe(socket);
    socket.on("error", () => onward.destroy());
    onward.on("error", () => socket.destroy());
  }).listen(0, "127.0.0.1");
  await once(forwarder, "listening");
  const { port } = forwarder.address() as AddressInfo;
  try {
    const flags = (name: string, fabric: object) => ["--ephemeral", "--node-id", name, "--config", config(name, fabric)];
    await using behind = await startNodeProcess(flags("behind", { advertise_port: port }));
    toPort = Number(behind.listeners["fabric"]?.split(":").at(-1));
    expect(toPort).not.toBe(port);
    // It is joined at the forwarder, knows nothing else of the node, and links to it.
    await using other = await startNodeProcess([...flags("other", {}), "--join", `127.0.0.1:${port}`]);
    const peersOf = async () => {
      const answer = await fetch(`http://${other.listeners["http"]}/control/peers`);
      const { peers } = (await answer.json()) as { readonly peers: readonly { nodeId: string; address: string; linked: boolean }[] };
      return peers.find(({ nodeId: id }) => id === "behind");
    };
    await until("linked", async () => (await peersOf())?.linked === true);
    expect(await peersOf()).toMatchObject({ address: `127.0.0.1:${port}` });
    expect(through.length).toBeGreaterThan(0);
    const targetsOnMap = async () => {
      const map = await other.run(["discovery", "cluster-map", "-o", "json"]);
      const { nodes } = JSON.parse(map.stdout) as { readonly nodes: readonly { key: { name: string }; targets: object[] }[] };
      return nodes.find(({ key }) => key.name === "behind")?.targets;
    };
    await expect.poll(targetsOnMap).toContainEqual(expect.objectContaining({ name: "fabric", port }));
  } finally {
    for (const socket of through) socket.destroy();
    forwarder.close();
  }
});
