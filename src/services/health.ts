/** `grpc.health.v1.Health`: reports which services of this node are serving, for load balancers and waiting clients (gRPC's health-checking.md). */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  Health,
  type HealthCheckRequest,
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
} from "../../gen/grpc/health/v1/health_pb.js";
import { WaymarkError } from "../lib/errors.ts";
import type { ServiceDefinition, StreamSource } from "./service.ts";

const { NOT_SERVING, SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;

/** A request contains only the name of a service. */
const MAX_REQUEST_BYTES = 16_384;

/** In the protocol, the empty name means the server as a whole. */
const WHOLE_SERVER = "";

/** The health service. The node reports to this object whether it is serving. */
export class HealthBoard {
  readonly service: ServiceDefinition;
  readonly #statuses = new Map<string, HealthCheckResponse_ServingStatus>();
  readonly #built: readonly string[];
  /** The additional names that are not open now. */
  readonly #closed = new Set<string>();
  #isServing = false;
  readonly #watches = new Set<HealthWatch>();

  /**
   * Services are NOT_SERVING until `setServing` is called. A service without any implemented methods stays NOT_SERVING, so that clients that wait for
   * its health are not routed to it. `further` lists additional names that are not services. An additional name that is not open also stays
   * NOT_SERVING.
   */
  constructor(services: readonly ServiceDefinition[], further: Readonly<Record<string, { readonly isOpen: boolean }>> = {}) {
    const others = Object.keys(further);
    for (const name of [WHOLE_SERVER, ...services.map(({ desc }) => desc.typeName), ...others]) this.#statuses.set(name, NOT_SERVING);
    const built = services.filter(({ handlers }) => Object.keys(handlers).length > 0).map(({ desc }) => desc.typeName);
    this.#built = [...built, ...others.filter((name) => further[name]?.isOpen === true)];
    this.service = {
      desc: Health,
      maxRequestBytes: MAX_REQUEST_BYTES,
      handlers: {
        check: { kind: "unary", handle: ({ service }: HealthCheckRequest) => this.#check(service) },
        list: { kind: "unary", handle: () => this.#list() },
        watch: { kind: "server_streaming", open: ({ service }: HealthCheckRequest) => this.#watch(service) },
      },
    };
  }

  /** Sets the status for later checks, and sends it to every open watch. */
  setServing(isServing: boolean): void {
    this.#isServing = isServing;
    this.#tell();
  }

  /** Sets whether one of the additional names is open. The name is SERVING while it is open and the node is serving. */
  setOpen(name: string, isOpen: boolean): void {
    if (isOpen) this.#closed.delete(name);
    else this.#closed.add(name);
    this.#tell();
  }

  /** Ends every open watch after its final status has been sent. */
  end(error: WaymarkError): void {
    for (const watch of this.#watches) watch.end(error);
  }

  #tell(): void {
    for (const name of [WHOLE_SERVER, ...this.#built])
      this.#statuses.set(name, this.#isServing && !this.#closed.has(name) ? SERVING : NOT_SERVING);
    for (const watch of this.#watches) watch.wake();
  }

  #check(name: string) {
    const status = this.#statuses.get(name);
    if (status === undefined)
      throw new WaymarkError(
        "not_found",
        `unknown service ${JSON.stringify(name.slice(0, 200))}: Health.List lists the services of this server`,
      );
    return create(HealthCheckResponseSchema, { status });
  }

  #list() {
    const statuses = Object.fromEntries([...this.#statuses].map(([name, status]) => [name, { status }]));
    return create(HealthListResponseSchema, { statuses });
  }

  /**
   * Sends the status immediately, and then every change to it. For an unknown name, it sends SERVICE_UNKNOWN and keeps the watch open, as the
   * protocol requires.
   */
  #watch(name: string): StreamSource {
    const watch = new HealthWatch(
      () => this.#statuses.get(name) ?? SERVICE_UNKNOWN,
      () => this.#watches.delete(watch),
    );
    this.#watches.add(watch);
    return watch;
  }
}

/** One watch. The watch stores only the last status that it sent, so a slow reader gets only the newest status. */
class HealthWatch implements StreamSource {
  wake: () => void = () => {};
  end: (error: WaymarkError) => void = () => {};
  readonly #read: () => HealthCheckResponse_ServingStatus;
  readonly #closed: () => void;
  #told: HealthCheckResponse_ServingStatus | undefined;

  constructor(read: () => HealthCheckResponse_ServingStatus, closed: () => void) {
    this.#read = read;
    this.#closed = closed;
  }

  attach(wake: () => void, end: (error: WaymarkError) => void): void {
    this.wake = wake;
    this.end = end;
  }

  pull(): Uint8Array | undefined {
    const status = this.#read();
    if (status === this.#told) return undefined;
    this.#told = status;
    return toBinary(HealthCheckResponseSchema, create(HealthCheckResponseSchema, { status }));
  }

  close(): void {
    this.#closed();
  }
}
