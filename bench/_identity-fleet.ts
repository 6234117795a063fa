/** Nodes with certificates from issuers of their own cluster. Their fabric ports stay the same when they start again. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BootstrapService, IdentityRole } from "../gen/waymark/control/v1/bootstrap_pb.js";
import { CredentialService } from "../gen/waymark/control/v1/credential_pb.js";
import { type Client, connect } from "../src/client/index.ts";
import { joinMesh } from "../src/main/identity.ts";
import { makeIntermediate, makeRoot } from "../src/node/identity/ca.io.ts";
import { IdentityDirectory } from "../src/node/identity/directory.io.ts";
import { freePort, type Node, scratchDir, startNode } from "./_processes.ts";
import { fail } from "./_work.ts";

const CLUSTER = "bench-identity";
const TRUST_DOMAIN = "bench.internal";

export interface IdentityFleetOptions {
  readonly issuers: number;
  readonly nodes: number;
  /** Settings of all nodes. */
  readonly settings?: { readonly identity?: object; readonly store?: object };
  /** Absent: the nodes run on whatever core there is. */
  readonly isPinned?: boolean;
  readonly onLog?: (line: string) => void;
}

interface Place {
  readonly nodeId: string;
  readonly dataDir: string;
  readonly fabric: string;
}

async function placeOf(nodeId: string): Promise<Place> {
  return { nodeId, dataDir: scratchDir(nodeId), fabric: `127.0.0.1:${await freePort()}` };
}

export class IdentityFleet {
  readonly #options: IdentityFleetOptions;
  readonly #config = join(scratchDir("identity"), "node.json");
  readonly #places: Place[] = [];
  #nodes: Node[] = [];
  #client: Client | undefined;

  private constructor(options: IdentityFleetOptions) {
    this.#options = options;
    const { identity, ...others } = options.settings ?? {};
    const settings = { tenants: { managed: true }, dns: { enabled: false }, identity: { source: "mesh", ...identity }, ...others };
    writeFileSync(this.#config, JSON.stringify(settings));
  }

  /** The issuers come first. All nodes are ready. */
  static async start(options: IdentityFleetOptions): Promise<IdentityFleet> {
    const fleet = new IdentityFleet(options);
    const root = scratchDir("root");
    makeRoot(root, TRUST_DOMAIN, Date.now());
    for (let i = 0; i < options.issuers; i++) {
      const place = await placeOf(`issuer-${i}`);
      makeIntermediate(root, { clusterId: CLUSTER, nodeId: place.nodeId }, place.dataDir, Date.now());
      fleet.#places.push(place);
      fleet.#nodes.push(await fleet.#startNode(place));
    }
    fleet.#connect();
    for (let i = options.issuers; i < options.nodes; i++) {
      const place = await placeOf(`member-${i}`);
      await fleet.join(place.nodeId, place.dataDir);
      fleet.#places.push(place);
      fleet.#nodes.push(await fleet.#startNode(place));
    }
    return fleet;
  }

  get nodes(): readonly Node[] {
    return this.#nodes;
  }

  /** Fabric addresses of all nodes. */
  get fabrics(): readonly string[] {
    return this.#places.map(({ fabric }) => fabric);
  }

  /** The operator token of the first issuer. */
  get operatorToken(): string {
    return readFileSync(join((this.#places[0] ?? fail()).dataDir, "operator.token"), "utf8").trim();
  }

  async createJoinToken(name: string, uses = 1): Promise<string> {
    return (await this.#call(BootstrapService.method.createToken, { name, role: IdentityRole.NODE, uses })).token;
  }

  /** Joins through the first issuer. Gives the private key and the certificate. */
  async join(name: string, dataDir: string): Promise<Buffer> {
    const given = { server: this.fabrics[0] ?? fail(), token: await this.createJoinToken(name), name, dataDir };
    await joinMesh({ ...given, attestation: "", clusterId: "", roots: "" });
    return new IdentityDirectory(dataDir).nodePem;
  }

  async revokeNode(name: string): Promise<void> {
    await this.#call(BootstrapService.method.revoke, { name, role: IdentityRole.NODE, reason: "bench" });
  }

  /** Gives a token of callers, and its id. */
  async createCredential(): Promise<{ readonly token: string; readonly accessor: string }> {
    const { token, info } = await this.#call(CredentialService.method.create, { principal: "bench", roles: [] });
    return { token, accessor: info?.accessor ?? fail() };
  }

  async revokeCredential(accessor: string): Promise<void> {
    await this.#call(CredentialService.method.revoke, { accessor, reason: "bench" });
  }

  /** Stops all nodes. */
  async stop(signal?: NodeJS.Signals): Promise<void> {
    this.#client?.close();
    await Promise.all(this.#nodes.map((node) => node.stop(signal)));
    this.#nodes = [];
  }

  /** Starts all nodes together, on their data. */
  async restart(): Promise<void> {
    this.#nodes = await Promise.all(this.#places.map((place) => this.#startNode(place)));
    this.#connect();
  }

  #connect(): void {
    const { host, port } = (this.#nodes[0] ?? fail()).grpc;
    this.#client = connect({ servers: [`${host}:${port}`], token: this.operatorToken, findServers: false });
  }

  readonly #call: Client["call"] = (...args) => (this.#client ?? fail()).call(...args);

  #startNode({ dataDir, fabric }: Place): Promise<Node> {
    const { isPinned = false, onLog } = this.#options;
    const seed = this.fabrics[0];
    const seeds = seed === undefined || seed === fabric ? [] : ["--join", seed];
    const args = ["--config", this.#config, "--fabric-port", fabric.split(":")[1] ?? fail(), ...seeds];
    const log = onLog === undefined ? {} : { onLog };
    return startNode({ dataDir, isPlain: true, isFree: !isPinned, args: [...args, ...(onLog ? ["--log-level", "info"] : [])], ...log });
  }
}
