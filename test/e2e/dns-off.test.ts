/**
 * With `dns.enabled: false` there is no gateway, and everything else is as it is with one.
 * @module-tag night
 */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-dns-off-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function start(name: string, isOn: boolean): Promise<NodeProcess> {
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify({ dns: { enabled: isOn }, observability: { log_level: "warn" } }));
  const node = await startNodeProcess(["--node-id", "same", "--data-dir", join(folder, name), "--config", path]);
  const web = ["--namespace", "svc.market", "--name", "web", "--instance", "1", "--alias", "www.svc.market", "--target", "10.0.0.1:80"];
  expect(await node.run(["register", ...web])).toMatchObject({ exit: 0 });
  return node;
}

/** The inodes of its sockets in a table of the kernel. */
function socketsIn(table: "tcp" | "tcp6" | "udp" | "udp6", pid: number): number {
  const own = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
    } catch {
      return undefined;
    }
  });
  const rows = readFileSync(`/proc/${pid}/net/${table}`, "utf8").split("\n").slice(1);
  // Of TCP those that listen.
  const open = rows.map((row) => row.trim().split(/\s+/)).filter(([, , , state]) => table.startsWith("udp") || state === "0A");
  return open.filter((row) => own.includes(row[9] ?? "")).length;
}

async function text(node: NodeProcess, path: string): Promise<string> {
  return (await fetch(`http://${node.listeners["http"]}${path}`)).text();
}

async function metricsOf(node: NodeProcess): Promise<readonly string[]> {
  return (await text(node, "/metrics")).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

test("without its gateway a node has no socket, count, check or file of DNS, and answers all else alike", async () => {
  await using on = await start("on", true);
  await using off = await start("off", false);
  expect(Object.keys(off.listeners)).toEqual(Object.keys(on.listeners).filter((name) => name !== "dns"));
  const sockets = (node: NodeProcess) => (["udp", "udp6", "tcp", "tcp6"] as const).map((table) => socketsIn(table, node.command.pid));
  const [udp = 0, udp6 = 0, tcp = 0, tcp6 = 0] = sockets(on);
  expect(sockets(off)).toEqual([udp - 1, udp6, tcp - 1, tcp6]);

  // All metrics of the page are there from the start, as zeros, so that a rate can be told of each.
  const counted = (rows: readonly string[]) => rows.filter((row) => row.includes("dns") && !row.endsWith(" 0"));
  expect(counted(await metricsOf(off))).toEqual([]);
  const ready = async (node: NodeProcess) =>
    ((await JSON.parse(await text(node, "/readyz"))) as { checks: readonly { name: string }[] }).checks.map(({ name }) => name);
  expect(await ready(off)).toEqual((await ready(on)).filter((name) => name !== "dns"));
  const files = (name: string) => readdirSync(join(folder, name)).toSorted();
  expect(files("on").filter((name) => name.includes("zone"))).toHaveLength(1);
  expect(files("off")).toEqual(files("on").filter((name) => !name.includes("zone")));

  // Cursors, times, addresses and generations differ between any two nodes.
  const plain = (said: string) =>
    said.replaceAll(/"(?:cursor|revision)": "[^"]*"|127\.0\.0\.1:\d+|\d{4}-\d\d-\d\dT[\d:.]+Z|[0-9a-f]{16,}|\d+(?:\.\d+)? ?m?s\b/g, "?");
  for (const argv of [
    ["discovery", "resolve", "web", "--namespace", "svc.market", "-o", "json"],
    ["dns", "list", "-o", "json"],
    ["dns", "describe", "web.svc.market.waymark", "-o", "json"],
    ["discovery", "query", "--namespace", "svc.market", "-o", "json"],
  ]) {
    const [a, b] = [await on.run(argv), await off.run(argv)];
    expect({ argv, exit: a.exit, stderr: a.stderr }).toMatchObject({ argv, exit: 0 });
    expect({ argv, exit: b.exit, said: plain(b.stdout + b.stderr) }).toEqual({ argv, exit: a.exit, said: plain(a.stdout + a.stderr) });
  }
});
