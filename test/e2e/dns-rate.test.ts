/** Floods of DNS questions against real nodes: answers over UDP are bounded for each network, `dig` still gets its own, and other listeners notice nothing. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import packet from "dns-packet";
import { describe, expect, test } from "vitest";
import { dig, isDigThere } from "../fakes/dig.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { filesAbout } from "../fakes/given-files.ts";
import { startLimitedNode } from "../fakes/limited-node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const NAME = "web.svc.market.waymark";
const portOf = (node: NodeProcess): number => Number((node.listeners["dns"] ?? "").split(":").at(-1));
const file = filesAbout("dns-rate");
const config = (toml: string) => file("toml", toml);

const REGISTER = ["register", "--namespace", "svc.market", "--name", "web", "--target", "10.0.0.1:80", "--instance", "1"];
const register = (node: NodeProcess) => node.run(REGISTER);

async function metric(node: NodeProcess, name: string): Promise<number> {
  const http = (node.listeners["http"] ?? "").replace("0.0.0.0", "127.0.0.1");
  const text = await (await fetch(`http://${http}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1]);
}

const DROPPED = 'dns_dropped_total\\{reason="rate"\\}';

/** Asks `count` times from one address, in turns that no socket buffer loses; the answers that came. Above the rate every second one is dropped. */
async function flood(node: NodeProcess, count: number, localAddress = "127.0.0.1"): Promise<readonly Buffer[]> {
  const socket = createSocket("udp4");
  const answers: Buffer[] = [];
  const before = await metric(node, DROPPED);
  try {
    socket.bind(0, localAddress);
    await once(socket, "listening");
    socket.on("message", (answer) => answers.push(answer));
    for (let sent = 0; sent < count; sent += 50) {
      for (let i = sent; i < Math.min(count, sent + 50); i++) socket.send(queryBytes({ name: NAME, type: "A" }), portOf(node), "127.0.0.1");
      const wanted = Math.min(count, sent + 50);
      const isDone = async () => answers.length >= wanted || answers.length + (await metric(node, DROPPED)) - before >= wanted;
      await until("answers to a turn of questions", isDone);
    }
    return answers;
  } finally {
    socket.close();
  }
}

/** Whether any of so many questions, sent as fast as they go, is told to ask again; some may be lost. */
async function isCutAmong(node: NodeProcess, count: number): Promise<boolean> {
  const socket = createSocket({ type: "udp4", recvBufferSize: 1 << 20 });
  let [answered, cut] = [0, 0];
  try {
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    socket.on("message", (answer) => {
      answered += 1;
      if (isCut(answer)) cut += 1;
    });
    const query = queryBytes({ name: NAME, type: "A" });
    for (let sent = 0; sent < count; sent += 100) {
      const before = answered;
      for (let i = 0; i < 100; i++) socket.send(query, portOf(node), "127.0.0.1");
      await until("answers", () => answered >= before + 40);
    }
    return cut > 0;
  } finally {
    socket.close();
  }
}

const isCut = (answer: Buffer): boolean => packet.decode(answer).flag_tc;

describe.skipIf(!isDigThere())("dns.rate", () => {
  test("above the rate of its network a question is told to ask again over TCP, which dig does; a trusted forwarder and other networks get answers", async () => {
    await using node = await startNodeProcess([
      "--ephemeral",
      "--config",
      config('[dns]\nrate = 5\ntrusted_forwarders = ["127.0.7.0/24"]\n'),
    ]);
    await register(node);
    const beganMs = performance.now();
    const answers = await flood(node, 400);
    const seconds = (performance.now() - beganMs) / 1000;
    const cut = answers.filter(isCut);
    expect(answers.length - cut.length).toBeGreaterThanOrEqual(5);
    expect(answers.length - cut.length).toBeLessThanOrEqual(5 + 5 * seconds);
    // No larger than the question: whoever forges an address gains nothing.
    const asked = queryBytes({ name: NAME, type: "A" }).length;
    expect(cut.every((answer) => answer.length <= asked)).toBe(true);
    expect(await metric(node, "dns_rate_limited_total")).toBe(cut.length);
    expect(await metric(node, DROPPED)).toBe(400 - answers.length);
    expect(Math.abs(400 - answers.length - cut.length)).toBeLessThanOrEqual(1 + 5 * seconds);
    // While somebody uses up all of the network's, each dig is told to ask again, or is told nothing and asks again by itself, and gets its answer.
    const over = new AbortController();
    // Every second question is dropped. After an odd number, the same dig is not dropped each time.
    const flooding = (async () => {
      while (!over.signal.aborted) await flood(node, 51);
    })();
    const told: string[] = [];
    const isTold = () => told.some((text) => text.includes("Truncated, retrying in TCP mode"));
    const seen = until("one is told to ask again", async () => {
      const printed = await Promise.all(
        Array.from({ length: 8 }, () => dig(`127.0.0.1:${portOf(node)}`, "+time=1", "+tries=15", "A", NAME)),
      );
      return told.push(...printed) > 0 && isTold();
    });
    await seen.finally(() => over.abort());
    await flooding;
    expect(told.every((text) => /status: NOERROR/.test(text) && text.includes("10.0.0.1"))).toBe(true);
    // A forwarder asks for many others.
    expect((await flood(node, 50, "127.0.7.1")).some(isCut)).toBe(false);
    // Another /24, in the same moment.
    const [other] = await flood(node, 1, "127.0.9.1");
    expect(other !== undefined && isCut(other)).toBe(false);
  });

  test("queries that waited while the node was paused are within the rate of those two seconds", { tags: ["night"] }, async () => {
    await using node = await startNodeProcess(["--ephemeral", "--config", config("[dns]\nrate = 50\n")]);
    await register(node);
    const socket = createSocket("udp4");
    const answers: Buffer[] = [];
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    socket.on("message", (answer) => answers.push(answer));
    const query = queryBytes({ name: NAME, type: "A" });
    await node.paused(2000, async () => {
      for (let i = 0; i < 100; i++) socket.send(query, portOf(node), "127.0.0.1");
    });
    await until("each query is answered or dropped", async () => answers.length + (await metric(node, DROPPED)) >= 100);
    expect(answers.filter((answer) => !isCut(answer))).toHaveLength(100);
    socket.close();
  });

  test.each([
    { where: "beyond loopback", flags: ["--host", "0.0.0.0", "--insecure"], isLimited: true },
    {
      where: "beyond loopback with dns.rate = 0",
      flags: ["--host", "0.0.0.0", "--insecure", "--config", config("[dns]\nrate = 0\n")],
      isLimited: false,
    },
    { where: "on loopback", flags: [], isLimited: false },
  ])("$where a flood is limited without a setting: $isLimited", async ({ flags, isLimited }) => {
    await using node = await startNodeProcess(["--ephemeral", ...flags]);
    // One answer that is cut shows the limit; without one, many more than a second's are whole.
    const end = performance.now() + 30_000;
    let isCutSeen = false;
    while (!isCutSeen && performance.now() < (isLimited ? end : 0)) isCutSeen = await isCutAmong(node, 2000);
    expect(isCutSeen || (await isCutAmong(node, 2000))).toBe(isLimited);
  });
});

test("several processes together give a network no more than the rate of the host, and one scrape counts what all of them dropped", {
  tags: ["night"],
}, async () => {
  const [rate, processes, ports, each] = [13, 2, 16, 50];
  await using node = await startNodeProcess(["--ephemeral", "--config", config(`[dns]\nrate = ${rate}\nprocesses = ${processes}\n`)]);
  await register(node);
  const beganMs = performance.now();
  // The kernel chooses the process by the port.
  const answers: Buffer[] = [];
  for (let port = 0; port < ports; port++) answers.push(...(await flood(node, each)));
  const seconds = (performance.now() - beganMs) / 1000;
  const whole = answers.filter((answer) => !isCut(answer));
  expect(whole.length).toBeGreaterThanOrEqual(processes);
  expect(whole.length).toBeLessThanOrEqual(rate + rate * seconds);
  expect(await metric(node, DROPPED)).toBe(ports * each - answers.length);
});

test("DNS questions use no allowance of other doors: not of the same address, and a crowd of addresses makes no caller forgotten", {
  tags: ["night"],
}, async () => {
  // One comes back a minute: longer than this takes.
  await using node = await startLimitedNode('[limits]\nreads_per_minute = 1\nmax_keys = 4\n[tenants]\nanonymous = "read"\n');
  const url = `http://${node.process.listeners["http"]}/waymark.discovery.v1.DiscoveryService/CatalogQuery`;
  const query = async () => (await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" })).status;
  const statuses = (answers: readonly Buffer[]) => answers.map((answer) => responseText(answer).split(/\s/)[0]);
  expect(statuses(await flood(node.process, 3))).toEqual(["NXDOMAIN", "NXDOMAIN", "NXDOMAIN"]);
  const overTcp = async () => {
    const socket = connect(portOf(node.process), "127.0.0.1");
    const question = queryBytes({ name: NAME, type: "A" });
    socket.end(Buffer.concat([Buffer.from([0, question.length]), question]));
    const [bytes] = (await once(socket, "data")) as [Buffer];
    socket.destroy();
    return bytes.subarray(2);
  };
  // Over TCP, where an address cannot be forged, it has an allowance of its own.
  expect(statuses([await overTcp(), await overTcp()])).toEqual(["NXDOMAIN", "REFUSED"]);
  // The same address over HTTP has all of its own.
  expect([await query(), await query()]).toEqual([200, 429]);
  for (let i = 2; i < 20; i++) await flood(node.process, 2, `127.0.0.${i}`);
  expect(await query()).toBe(429);
  // Addresses over UDP can be forged: a crowd of them is one record a second.
  const ofDns = async () => {
    const answer = await node.post("operator", "/waymark.policy.v1.PolicyService/AccessAudit", { reason: "rate_limited" });
    const { records } = (await answer.json()) as { records: readonly { readonly detail?: string; readonly source?: string }[] };
    return records.filter(({ detail = "" }) => detail.startsWith("dns, last from 127.0.0."));
  };
  await until("it is in the audit", async () => (await ofDns()).length > 0);
  expect((await ofDns()).every(({ source = "" }) => source === "")).toBe(true);
});
