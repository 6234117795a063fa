/** The services of an issuer, over a store in a map. */
import { randomBytes } from "node:crypto";
import { create, type DescMessage, type DescMethodUnary, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { JoinService } from "../../gen/waymark/control/v1/join_pb.js";
import { Authority } from "../../src/control/identity/authority.io.ts";
import { CallerTokens } from "../../src/control/identity/caller-tokens.io.ts";
import { TrustCopy } from "../../src/control/identity/trust.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../src/services/contract.ts";
import { bootstrapService, type IdentityOperation } from "../../src/services/identity/bootstrap.ts";
import { credentialService } from "../../src/services/identity/credentials.ts";
import { joinService } from "../../src/services/identity/join.ts";
import type { TrustSource } from "../../src/services/identity/trust-stream.ts";
import type { ServiceDefinition } from "../../src/services/service.ts";
import { TestRoot } from "./identity.ts";
import { MapStore } from "./map-store.ts";

export const NOW_MS = 1_760_000_000_000;
export const LEAF_TTL_MS = 3_600_000;

export interface IdentityServiceOptions {
  readonly isIssuer?: boolean;
  /** Whether callers' tokens are used. */
  readonly isManaged?: boolean;
  readonly issuers?: readonly string[];
}

export class IdentityServices {
  readonly store = new MapStore();
  readonly root = new TestRoot(NOW_MS);
  readonly authority: Authority;
  readonly operations: IdentityOperation[] = [];
  /** The requests of JoinService, as `join` or `join token_spent`. */
  readonly requests: string[] = [];
  wallMs = NOW_MS;
  /** The records that JoinService.Follow streams. */
  readonly trust: TrustSource;
  readonly #handlers: ReadonlyMap<string, ServiceDefinition["handlers"]>;

  constructor({ isIssuer = true, isManaged = true, issuers = [] }: IdentityServiceOptions = {}) {
    this.authority = this.authorityOf("eu-1");
    const { store, root } = this;
    const copy = {
      get roots() {
        return copyOf().roots || root.certificate;
      },
      get issuers() {
        return isIssuer ? copyOf().issuers : issuers.map((address) => ({ address, nodeId: "", rootKey: "", expiresWallMs: 0 }));
      },
      get records() {
        return copyOf().records;
      },
    };
    const copyOf = () => {
      const found = new TrustCopy("eu");
      found.apply(store.map.list("trust/").items);
      return found;
    };
    this.trust = { copy, follow: () => () => {} };
    const onOperation = (_caller: unknown, operation: IdentityOperation) => void this.operations.push(operation);
    const authority = isIssuer ? this.authority : undefined;
    const onRequest = (kind: string, problem: string) => void this.requests.push(`${kind} ${problem}`.trim());
    const services = [
      bootstrapService({ authority, copy, leafTtlMs: LEAF_TTL_MS, onOperation }),
      credentialService({
        isManaged,
        tokens: isManaged ? new CallerTokens(this.store, randomBytes) : undefined,
        copy,
        onOperation,
      }),
      joinService({ authority: this.authority, trust: this.trust, tick: () => () => {}, onOperation, onRequest }),
    ];
    this.#handlers = new Map(services.map(({ desc, handlers }) => [desc.typeName, handlers]));
  }

  /** The authority on another issuer of the cluster. */
  authorityOf(nodeId: string): Authority {
    const issuer = this.root.issuer(nodeId, "eu");
    return new Authority({ store: this.store, issuer, leafTtlMs: LEAF_TTL_MS, renewAfterEndMs: LEAF_TTL_MS });
  }

  /** Opens a stream of JoinService.Follow for this principal. */
  follow(principal: string, isAuthenticated = true) {
    const handler = this.#handlers.get(JoinService.typeName)?.["follow"];
    if (handler?.kind !== "server_streaming") throw new Error("Follow is no stream");
    const caller = { ...anonymousCaller("eu", "127.0.0.1"), principal, isAuthenticated };
    return handler.open(create(JoinService.method.follow.input) as never, {
      caller,
      time: { monoMs: 0, wallMs: this.wallMs },
      requestId: "r-1",
    });
  }

  /** Calls a method as `ann`, after the check of its request. */
  async call<I extends DescMessage, O extends DescMessage>(
    { localName, parent, input, output }: DescMethodUnary<I, O>,
    init: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const handler = this.#handlers.get(parent.typeName)?.[localName];
    if (handler?.kind !== "unary") throw new Error(`${localName} is not unary`);
    const request = create(input, init);
    requestCheckOf(input)(request);
    const caller = { ...anonymousCaller("eu", "127.0.0.1", ["mesh.admin"]), principal: "ann" };
    const context = { caller, time: { monoMs: 0, wallMs: this.wallMs }, requestId: "r-1" };
    const answer = await handler.handle(request as never, context);
    if (answer instanceof Uint8Array || answer.$typeName !== output.typeName) throw new Error(`${localName} has another answer`);
    return answer as MessageShape<O>;
  }
}
