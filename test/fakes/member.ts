/** A real node of a cluster, as tests talk to it: what it registers, shows and says of its peers. */
import type { JsonObject } from "@bufbuild/protobuf";
import { type Answer, GrpcDoor } from "./node.ts";
import type { NodeProcess } from "./node-process.ts";
import { until } from "./until.ts";

function keyOf(name: string): JsonObject {
  return { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" };
}

/** `PEER_STATUS_ALIVE` → `alive`. */
export function statusWord(status: string): string {
  return status.replace("PEER_STATUS_", "").toLowerCase();
}

/** A started node with a client. */
export class Member implements AsyncDisposable {
  readonly node: NodeProcess;
  readonly door: GrpcDoor;

  constructor(node: NodeProcess) {
    this.node = node;
    this.door = new GrpcDoor(node.grpc);
  }

  get fabric(): string {
    return this.node.listeners["fabric"] ?? "";
  }

  /** In `svc.market`; static unless `lease` says otherwise. */
  async register(name: string, more: JsonObject = {}, lease: JsonObject = { staticLease: true }): Promise<Answer> {
    const entry = { key: keyOf(name), targets: [{ host: "10.0.0.1", port: 80 }], ...more };
    const answer = await this.door.ask("register", { entries: [entry], ...lease });
    if (answer.code !== "OK") throw new Error(`${name} was not registered: ${answer.message}`);
    return answer;
  }

  async unregister(name: string): Promise<void> {
    const { response } = await this.door.ask("unregister", { keys: [keyOf(name)] });
    if (response["removed"] !== 1) throw new Error(`${name} was not removed: ${JSON.stringify(response)}`);
  }

  /** Of what is visible below `svc`, in order. */
  async names(): Promise<readonly string[]> {
    const { response } = await this.door.ask("catalogQuery", { namespacePrefix: "svc" });
    return ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name).toSorted();
  }

  /** Waits until exactly these are visible; fails with what was visible last. */
  async expectNames(names: readonly string[]): Promise<void> {
    await until(`what ${this.node.nodeId} shows`, async () => {
      const found = await this.names();
      return JSON.stringify(found) === JSON.stringify(names) ? [] : [`${found.join(", ")} instead of ${names.join(", ")}`];
    });
  }

  /** `name health` of what is visible below `svc`. */
  async seen(): Promise<readonly string[]> {
    const { response } = await this.door.ask("catalogQuery", { namespacePrefix: "svc" });
    const items = (response["items"] ?? []) as { key: { name: string }; health?: string }[];
    return items.map(({ key, health = "" }) => `${key.name} ${health.replace("HEALTH_STATUS_", "").toLowerCase()}`);
  }

  async peers(): Promise<readonly string[]> {
    const { response } = await this.door.ask("listPeers", {});
    return ((response["peers"] ?? []) as { nodeId: string; status: string }[]).map(
      ({ nodeId, status }) => `${nodeId} ${statusWord(status)}`,
    );
  }

  async http(path: string): Promise<{ readonly status: number; readonly body: Record<string, unknown> }> {
    const answer = await fetch(`http://${this.node.listeners["http"]}${path}`);
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  }

  /** Whether `GET /control/peers` has changed since it had this tag, and its tag now. */
  async peersSince(etag: string): Promise<{ readonly status: number; readonly etag: string }> {
    const answer = await fetch(`http://${this.node.listeners["http"]}/control/peers`, { headers: { "if-none-match": etag } });
    await answer.arrayBuffer();
    return { status: answer.status, etag: answer.headers.get("etag") ?? "" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.door[Symbol.dispose]();
    await this.node[Symbol.asyncDispose]();
  }
}
