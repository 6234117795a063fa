/** Real members of etcd, with their data in a temporary directory. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EtcdOptions } from "../../src/store/etcd/client.io.ts";
import { openEtcdStore } from "../../src/store/etcd/store.io.ts";
import { freePort } from "./probed-servers.ts";
import { until } from "./until.ts";

export interface EtcdProcessOptions {
  /** The program. Default: `etcd` of the system. */
  readonly program?: string;
  /** 1 or 3. Default: 1. */
  readonly memberCount?: number;
  readonly flags?: readonly string[];
  /** Files of the server and of the CA that signs clients. Default: plaintext. */
  readonly tls?: { readonly caFile: string; readonly certFile: string; readonly keyFile: string };
}

const OPTIONS: Omit<EtcdOptions, "endpoints"> = { prefix: "/waymark/test/", timeoutMs: 5000 };

export function isEtcdThere(program = "etcd"): boolean {
  return spawnSync(program, ["--version"]).status === 0;
}

class EtcdMember {
  readonly name: string;
  readonly endpoint: string;
  readonly peerUrl: string;
  #child: ChildProcess | undefined;

  constructor(name: string, port: number, peerPort: number) {
    this.name = name;
    this.endpoint = `127.0.0.1:${port}`;
    this.peerUrl = `http://127.0.0.1:${peerPort}`;
  }

  start(program: string, flags: readonly string[]): void {
    this.#child = spawn(program, [`--name=${this.name}`, ...flags], { stdio: "ignore" });
  }

  /** Sends a signal to the process. */
  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#child?.kill(name);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }
}

export class EtcdCluster implements AsyncDisposable {
  readonly members: readonly EtcdMember[];
  readonly #directory = mkdtempSync(join(tmpdir(), "waymark-etcd-"));
  readonly #options: EtcdProcessOptions;

  private constructor(members: readonly EtcdMember[], options: EtcdProcessOptions) {
    this.members = members;
    this.#options = options;
  }

  /** Starts the members, and waits until each answers. */
  static async start(options: EtcdProcessOptions = {}): Promise<EtcdCluster> {
    const ports = await Promise.all(Array.from({ length: options.memberCount ?? 1 }, () => Promise.all([freePort(), freePort()])));
    const cluster = new EtcdCluster(
      ports.map(([port, peerPort], at) => new EtcdMember(`m${at}`, port, peerPort)),
      options,
    );
    for (const member of cluster.members) cluster.startMember(member);
    await cluster.ready();
    return cluster;
  }

  get endpoints(): readonly string[] {
    return this.members.map(({ endpoint }) => endpoint);
  }

  startMember(member: EtcdMember): void {
    const { program = "etcd", flags = [], tls } = this.#options;
    const url = `${tls === undefined ? "http" : "https"}://${member.endpoint}`;
    const files = tls && [
      `--cert-file=${tls.certFile}`,
      `--key-file=${tls.keyFile}`,
      `--trusted-ca-file=${tls.caFile}`,
      "--client-cert-auth",
    ];
    member.start(program, [
      `--data-dir=${join(this.#directory, member.name)}`,
      "--log-level=error",
      "--heartbeat-interval=50",
      "--election-timeout=500",
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      `--listen-peer-urls=${member.peerUrl}`,
      `--initial-advertise-peer-urls=${member.peerUrl}`,
      `--initial-cluster=${this.members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(",")}`,
      ...(files ?? []),
      ...flags,
    ]);
  }

  /** Replaces etcd by one without data, which has the same ports and the same cluster id. */
  async wipe(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
    for (const member of this.members) {
      rmSync(join(this.#directory, member.name), { recursive: true });
      this.startMember(member);
    }
    await this.ready();
  }

  /** Waits until these members answer a read. */
  async ready(members: readonly EtcdMember[] = this.members): Promise<void> {
    const { tls } = this.#options;
    for (const { endpoint } of members) {
      await using store = openEtcdStore({ ...OPTIONS, endpoints: [endpoint], tls });
      await until(`etcd answers at ${endpoint}`, async () => (await store.list("")).revision > 0);
    }
  }

  /** Calls a method of etcd's JSON gateway, without TLS. The token is that of a user. */
  async post(path: string, body: object, token = ""): Promise<Readonly<Record<string, unknown>>> {
    const url = `http://${this.endpoints[0]}/v3/${path}`;
    const answer = await fetch(url, { method: "POST", body: JSON.stringify(body), headers: token === "" ? {} : { authorization: token } });
    const json = (await answer.json()) as Readonly<Record<string, unknown>>;
    if (!answer.ok) throw new Error(`${path}: ${JSON.stringify(json)}`);
    return json;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
