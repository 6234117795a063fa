/**
 * Forwarders in front of a real node: each of their clients has the view of its own network, whatever the forwarder keeps.
 *
 * @module-tag path
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../../scripts/run.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { freePort } from "../fakes/probed-servers.ts";
import { until } from "../fakes/until.ts";
import { areDnsClientsThere, findCoreDns } from "./needs.ts";

const hasUnbound = await areDnsClientsThere();
const coreDns = await findCoreDns();
/** Addresses of clients, by whose view their network has. */
const CLIENTS = { red: "127.0.21.1", neighbour: "127.0.21.2", blue: "127.0.22.1", stranger: "127.0.23.1" } as const;
type Client = keyof typeof CLIENTS;

/** A node at which each of two tenants sees a service of its own, for the time of `use`. */
async function withViews(use: (node: NodeProcess) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-forwarders-"));
  const file = (name: string, content: string) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const view = (tenant: string, prefix: string) => `[[dns.views]]\nprefixes = ["${prefix}"]\ntenant = "${tenant}"\n`;
  const toml = `[dns]\ntrusted_forwarders = ["127.0.0.1"]\n${view("red", "127.0.21.0/24")}${view("blue", "127.0.22.0/24")}`;
  const rules = ["red", "blue"].map((tenant) => ({ namespace: `svc.${tenant}`, visibility_tenants: [tenant] }));
  const policy = JSON.stringify({ version: "v1", default_allow: true, rules });
  try {
    await using node = await startNodeProcess([
      "--ephemeral",
      "--policy",
      file("policy.json", policy),
      "--config",
      file("config.toml", toml),
    ]);
    for (const namespace of ["svc.all", "svc.red", "svc.blue"]) {
      const what = ["--namespace", namespace, "--name", "web", "--target", "10.0.0.1:80", "--instance", "1"];
      expect(await node.run(["register", ...what])).toMatchObject({ exit: 0 });
    }
    await use(node);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const portOf = (node: NodeProcess): string => (node.listeners["dns"] ?? "").split(":").at(-1) ?? "";

/** A forwarder of that port, until it is disposed of. */
class Forwarder implements AsyncDisposable {
  readonly port: number;
  readonly #child: ReturnType<typeof spawn>;
  readonly #folder: string;

  private constructor(port: number, child: ReturnType<typeof spawn>, folder: string) {
    this.port = port;
    this.#child = child;
    this.#folder = folder;
  }

  static async start(program: string, flags: readonly string[], config: (port: number, folder: string) => string): Promise<Forwarder> {
    const folder = mkdtempSync(join(tmpdir(), "waymark-forwarder-"));
    const port = await freePort();
    writeFileSync(join(folder, "config"), config(port, folder));
    const forwarder = new Forwarder(port, spawn(program, [...flags, join(folder, "config")], { stdio: "ignore" }), folder);
    await until("the forwarder answers", async () => (await forwarder.ask("stranger", "svc.all", 1)) === "NOERROR");
    return forwarder;
  }

  /** The code of the answer about the service of a namespace, "none" if there is none within so many seconds. */
  async ask(client: Client, namespace: string, seconds = 2): Promise<string> {
    const words = ["@127.0.0.1", "-b", CLIENTS[client], "-p", `${this.port}`, "+noall", "+header", "+retry=0", `+time=${seconds}`];
    const { output } = await run("kdig", [...words, `web.${namespace}.waymark`, "A"]);
    return /status: (\w+);/.exec(output)?.[1] ?? "none";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = once(this.#child, "exit");
    if (this.#child.exitCode === null && this.#child.kill("SIGKILL")) await exited;
    rmSync(this.#folder, { recursive: true });
  }
}

/** What clients are told that is not theirs. It asks in an order in which an answer that is kept for the wrong client would show: each name first by those who do not see it, and at once again. */
async function mixedAnswers(forwarder: Forwarder): Promise<readonly string[]> {
  const mixed: string[] = [];
  const sees = (client: Client, namespace: string) => {
    const tenant = client === "neighbour" ? "red" : client;
    return namespace === "svc.all" || namespace === `svc.${tenant}` ? "NOERROR" : "NXDOMAIN";
  };
  const clients = ["stranger", "blue", "red", "neighbour"] as const;
  for (let round = 0; round < 3; round++) {
    for (const namespace of ["svc.red", "svc.blue", "svc.all"]) {
      for (const client of round === 1 ? clients.toReversed() : clients) {
        const said = await forwarder.ask(client, namespace);
        if (said !== sees(client, namespace)) mixed.push(`round ${round}: ${client} is told ${said} of ${namespace}`);
      }
    }
  }
  return mixed;
}

async function questionsTo(node: NodeProcess): Promise<number> {
  const text = await (await fetch(`http://${node.listeners["http"]}/metrics`)).text();
  return [...text.matchAll(/^dns_queries_total\{[^}]*\} (\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
}

test.skipIf(!hasUnbound)(
  `Unbound that tells client subnets never mixes the views of two networks, and keeps what it may${hasUnbound ? "" : " (skipped: needs kdig, drill, delv and unbound)"}`,
  async () => {
    await withViews(async (node) => {
      await using unbound = await Forwarder.start(
        "unbound",
        ["-d", "-c"],
        (port, folder) => `server:
  directory: "${folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1
  port: ${port}
  module-config: "subnetcache iterator"
  send-client-subnet: 127.0.0.1
  client-subnet-zone: "waymark"
  client-subnet-always-forward: yes
  max-client-subnet-ipv4: 24
  do-not-query-localhost: no
stub-zone:
  name: "waymark"
  stub-addr: 127.0.0.1@${portOf(node)}
`,
      );
      expect(await mixedAnswers(unbound)).toEqual([]);
      // What was shown to one network is kept for all of it.
      const before = await questionsTo(node);
      expect([await unbound.ask("red", "svc.red"), await unbound.ask("neighbour", "svc.red")]).toEqual(["NOERROR", "NOERROR"]);
      expect(await questionsTo(node)).toBe(before);
      // What was denied to one network is kept for nobody: it is asked anew as soon as the second is over.
      await until("a denial is asked anew", async () => {
        expect(await unbound.ask("blue", "svc.red")).toBe("NXDOMAIN");
        return (await questionsTo(node)) > before;
      });
    });
  },
);

test.skipIf(!hasUnbound || coreDns === undefined)(
  `CoreDNS that tells client subnets never mixes the views of two networks${hasUnbound && coreDns !== undefined ? "" : " (skipped: needs kdig and CoreDNS)"}`,
  async () => {
    await withViews(async (node) => {
      await using forwarder = await Forwarder.start(
        coreDns ?? "",
        ["-conf"],
        (port) => `waymark:${port} {
  bind 127.0.0.1
  rewrite edns0 subnet set 24 56
  forward . 127.0.0.1:${portOf(node)}
}
`,
      );
      expect(await mixedAnswers(forwarder)).toEqual([]);
    });
  },
);
