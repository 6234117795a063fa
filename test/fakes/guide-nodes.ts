/** Nodes as a guide shows them: the files of its page, with paths, addresses and keys that are there in place of those of the page. */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FabricAuthority } from "./fabric-transport.ts";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";
import { Relay } from "./relay.ts";

/** The blocks of a page in a language, by their first line, which names the file: `# mesh: eu1-a.toml`. */
export function filesOf(page: string, language: "toml" | "yaml" = "toml"): ReadonlyMap<string, string> {
  const blocks = readFileSync(page, "utf8").matchAll(new RegExp(`^\`\`\`${language}\\n# (.*)\\n([^]*?)^\`\`\`$`, "gm"));
  return new Map([...blocks].map(([, name = "", text = ""]) => [name, text]));
}

/** Parts of a page below the headings that match, by what the first group of these matches. */
export function sectionsOf(page: string, heading: RegExp): ReadonlyMap<string, string> {
  const parts = readFileSync(page, "utf8").split(/^(?=##)/m);
  return new Map(
    parts.flatMap(
      (part) =>
        heading
          .exec(part)
          ?.slice(1, 2)
          .map((name) => [name, part] as const) ?? [],
    ),
  );
}

export class GuideNodes implements AsyncDisposable {
  readonly #home = mkdtempSync(join(tmpdir(), "waymark-guide-"));
  readonly #authorities = new Map<string, FabricAuthority>();
  /** Public keys by cluster, as `summary.keys` and borders have them. */
  readonly #keys = new Map<string, string>();
  /** By node, the fabric address that others know of it, whenever it starts. */
  readonly #doors = new Map<string, Relay>();
  readonly running = new Map<string, NodeProcess>();

  /** `eu1-a` is the node a of the cluster eu1. One node a cluster has a key and a certificate. */
  static async of(nodes: readonly string[]): Promise<GuideNodes> {
    const made = new GuideNodes();
    for (const node of nodes) {
      const cluster = node.split("-")[0] ?? "";
      const authority = new FabricAuthority();
      made.#authorities.set(cluster, authority);
      made.#doors.set(node, await Relay.to(""));
      const { privateKey, publicKey } = generateKeyPairSync("ed25519");
      made.#keys.set(cluster, publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("base64"));
      made.write(node, "cluster.key", privateKey.export({ type: "pkcs8", format: "pem" }).toString());
      const { cert, key } = authority.issue(node, { clusterId: cluster });
      made.write(node, "node.pem", cert);
      made.write(node, "node.key", key);
    }
    for (const node of nodes) for (const [cluster, { ca }] of made.#authorities) made.write(node, `${cluster}-authority.pem`, ca);
    return made;
  }

  node(name: string): NodeProcess {
    const node = this.running.get(name);
    if (node === undefined) throw new Error(`${name} does not run`);
    return node;
  }

  /** A text of the page as it is here. */
  here(name: string, text: string): string {
    let cluster = "";
    const lines = text.split("\n").map((line) => {
      cluster = /^cluster_id = "(.*)"$/.exec(line)?.[1] ?? cluster;
      return /^(?:public_key|keys) = /.test(line) ? line.replace(/"<.*>"/, `"${this.#keys.get(cluster) ?? unused()}"`) : line;
    });
    const known = lines.join("\n").replaceAll("/etc/waymark/", `${join(this.#home, name)}/`);
    const fabric = known.replaceAll(/([\w-]+)\.example:17421/g, (_, other: string) => this.#doors.get(other)?.address ?? other);
    return fabric.replaceAll(/([\w-]+)\.example:17420/g, (_, other: string) => this.node(other).grpc);
  }

  /** Starts a node, or starts it again, with a file of the page. */
  async start(name: string, text: string, flags: readonly string[] = ["--ephemeral"]): Promise<NodeProcess> {
    const file = this.write(name, `${name}.toml`, this.here(name, text));
    await this.running.get(name)?.stop();
    const node = await startNodeProcess(["--config", file, ...flags]);
    this.running.set(name, node);
    const door = this.#doors.get(name);
    if (door !== undefined) door.target = node.listeners["fabric"] ?? "";
    return node;
  }

  /** Flags of a node whose entries stay when it is started again. */
  kept(name: string): readonly string[] {
    return ["--data-dir", join(this.#home, name, "data"), "--on-stop", "keep"];
  }

  folder(name: string): string {
    return join(this.#home, name);
  }

  write(name: string, file: string, content: string | Uint8Array): string {
    mkdirSync(this.folder(name), { recursive: true });
    const path = join(this.#home, name, file);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.running.values()].map((node) => node[Symbol.asyncDispose]()));
    await Promise.all([...this.#doors.values()].map((door) => door[Symbol.asyncDispose]()));
    rmSync(this.#home, { recursive: true, force: true });
  }
}

/** A key of a cluster that no file of this test runs: any that nobody has. */
function unused(): string {
  const { publicKey } = generateKeyPairSync("ed25519");
  return publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("base64");
}
