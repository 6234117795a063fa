/** Random names from 10,000 networks beside good questions: who sends them stands in a network namespace, where all these addresses are its own. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { dnsSettings, loadNames } from "./_dns.ts";
import type { Sent } from "./_dns-flood-child.ts";
import { hasTool, listenerOf, type Node, startNode } from "./_processes.ts";

const CHILD = fileURLToPath(new URL("_dns-flood-child.ts", import.meta.url));
const NAMESPACE = `waymark-bench-${process.pid}`;
/** Names of interfaces have 15 characters at most. */
const LINK = `wmb${process.pid}`;
const SERVER = "100.127.255.1";
const SENDER = "100.127.255.2";
/** More than 10,000 networks of 256 addresses. RFC 6598 gives them to nobody's own networks. */
const SOURCES = "100.64.0.0/10";
const FLOOD_PER_SECOND = 50_000;
const GOOD_PER_SECOND = 5000;

export interface Flooded {
  readonly answeredShare: number;
  /** That arrived. */
  readonly floodPerSecond: number;
  readonly goodPerSecond: number;
  /** Of a core that the node took. */
  readonly share: number;
}

function ip(...args: readonly string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}

/** Gives a text where it cannot be done here: why. */
export async function flooded(seconds: number): Promise<Flooded | string> {
  if (process.getuid?.() !== 0 || !hasTool("ip")) return "not measured: network namespaces need root and `ip`";
  let node: Node | undefined;
  try {
    ip("netns", "add", NAMESPACE);
    const inside = (...args: readonly string[]) => ip("-n", NAMESPACE, ...args);
    ip("link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE);
    ip("addr", "add", `${SERVER}/30`, "dev", LINK);
    ip("link", "set", LINK, "up");
    ip("route", "add", SOURCES, "via", SENDER);
    inside("addr", "add", `${SENDER}/30`, "dev", "eth0");
    inside("link", "set", "eth0", "up");
    inside("link", "set", "lo", "up");
    // Each of the addresses is its own.
    inside("route", "add", "local", SOURCES, "dev", "lo");
    node = await startNode({ args: ["--config", dnsSettings({ host: SERVER }), "--insecure"] });
    await loadNames(node);
    return await measured(node, seconds);
  } finally {
    await node?.stop();
    // The link goes with its namespace, and the route with the link.
    execFileSync("ip", ["netns", "del", NAMESPACE], { stdio: "ignore" });
  }
}

/** Packets that have come over the link. */
function arrived(): number {
  return Number(readFileSync(`/sys/class/net/${LINK}/statistics/rx_packets`, "utf8"));
}

async function measured(node: Node, seconds: number): Promise<Flooded> {
  const { host, port } = listenerOf(node, "dns");
  const rates = [seconds, FLOOD_PER_SECOND, GOOD_PER_SECOND].map(String);
  const [beforeMs, startMs, before] = [node.cpuMs(), performance.now(), arrived()];
  const child = spawn("ip", ["netns", "exec", NAMESPACE, process.execPath, join(CHILD), host, String(port), ...rates], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString("utf8")));
  await once(child, "close");
  const share = (node.cpuMs() - beforeMs) / (performance.now() - startMs);
  const { flood, good, answered, tookSeconds } = JSON.parse(text) as Sent;
  // What its own side of the link has dropped was never asked of the node. The few packets that are no questions are counted.
  const came = Math.max(0, Math.min(flood, arrived() - before - good));
  return { answeredShare: answered / good, floodPerSecond: came / tookSeconds, goodPerSecond: good / tookSeconds, share };
}
