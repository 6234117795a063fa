/**
 * A resolver whose DNS is answered by a process of its own, which asks it for what must be fetched.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { dig, isDigThere } from "../fakes/dig.ts";
import { askOnce, dnsProcessesOf } from "../fakes/dns-processes.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-processes-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const settings = join(HOME, "resolver.toml");
writeFileSync(settings, '[dns]\nprocesses = 1\nstale_ttl = "3s"\n');
const FOLLOWED = "web.svc.market.waymark";
const FETCHED = "far.svc.other.waymark";
const ALIAS = "shop.example.waymark";

async function register(node: NodeProcess, namespace: string, name: string, more: readonly string[]): Promise<void> {
  expect(await node.run(["register", "--namespace", namespace, "--name", name, "--instance", "1", ...more])).toMatchObject({ exit: 0 });
}

async function start() {
  const node = await startNodeProcess(["--ephemeral", "--node-id", "near"]);
  await register(node, "svc.market", "web", ["--target", "192.0.2.1:80"]);
  await register(node, "svc.other", "far", ["--target", "192.0.2.2:80", "--alias", "shop.example"]);
  const flags = ["--mode", "resolver", "--upstream", node.grpc, "--namespaces", "svc.market", "--ephemeral", "--config", settings];
  const resolver = await startNodeProcess([...flags, "--node-id", "edge"]);
  const port = Number((resolver.listeners["dns"] ?? "").split(":").at(-1));
  return { node, resolver, port };
}

/** The code of the answer, and its extended error if it has one. */
async function codeOf(port: number, name: string, ...words: readonly string[]): Promise<string> {
  const printed = await dig(`127.0.0.1:${port}`, name, ...words);
  const [code = "", error] = [/status: (\w+)/, /EDE: (\d+)/].map((row) => row.exec(printed)?.[1]);
  return error === undefined ? code : `${code} ${error}`;
}

test.skipIf(!isDigThere())(
  `a process of a resolver tells what is followed, what is fetched for it and who carries an alias; killed in a burst it comes back; cut off it tells what is held${isDigThere() ? "" : " (skipped: needs dig)"}`,
  async () => {
    const { node, resolver, port } = await start();
    await using _ = {
      [Symbol.asyncDispose]: async () => void (await Promise.all([resolver, node].map((each) => each[Symbol.asyncDispose]()))),
    };
    const [only = 0] = dnsProcessesOf(resolver.command.pid);
    expect(only).toBeGreaterThan(0);
    await until("what is followed is there", async () => (await askOnce(port, FOLLOWED))?.[0] === "192.0.2.1");
    expect([await askOnce(port, FETCHED), await askOnce(port, ALIAS)]).toEqual([["192.0.2.2"], ["192.0.2.2"]]);
    expect([
      await codeOf(port, "none.svc.other.waymark"),
      await codeOf(port, "none.svc.market.waymark"),
      await codeOf(port, "other.waymark"),
    ]).toEqual(["NXDOMAIN", "NXDOMAIN", "NOERROR"]);
    expect(await codeOf(port, "edge.node.waymark", "TXT")).toBe("NOERROR");
    expect(await codeOf(port, "near.node.waymark", "TXT", "+tcp")).toBe("NOERROR");

    // A change of what is followed comes by the feed.
    await register(node, "svc.market", "late", ["--target", "192.0.2.3:80"]);
    await until("a change shows", async () => (await askOnce(port, "late.svc.market.waymark"))?.[0] === "192.0.2.3");

    // Names that nobody has asked for, so that it waits for its resolver when it is killed.
    const burst = Array.from({ length: 50 }, (__, i) => askOnce(port, `n${i}.svc.burst${i}.waymark`));
    process.kill(only, "SIGKILL");
    await Promise.all(burst);
    await until("it is back", async () => (await askOnce(port, FETCHED))?.[0] === "192.0.2.2");
    expect(dnsProcessesOf(resolver.command.pid)).not.toContain(only);
    expect([await askOnce(port, FOLLOWED), await askOnce(port, ALIAS)]).toEqual([["192.0.2.1"], ["192.0.2.2"]]);
    expect(await codeOf(port, "n1.svc.burst1.waymark")).toBe("NXDOMAIN");

    node.command.kill("SIGKILL");
    await until("it knows that nobody can be asked", async () => (await codeOf(port, "new.svc.other.waymark")) === "SERVFAIL 22");
    expect(await codeOf(port, FOLLOWED)).toBe("NOERROR 3");
    await until("what was fetched is told as stale", async () => (await codeOf(port, FETCHED)) === "NOERROR 3");
    expect(await codeOf(port, ALIAS)).toBe("NOERROR 3");
    // Also by one that has told nothing before.
    for (const pid of dnsProcessesOf(resolver.command.pid)) process.kill(pid, "SIGKILL");
    await until("the next tells it too", async () => (await codeOf(port, FETCHED)) === "NOERROR 3");
    expect(await resolver.stop()).toMatchObject({ exit: 0 });
  },
);
