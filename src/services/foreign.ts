/** The facts that `waymark.options.v1` states of our rpcs, for services of gRPC itself, whose protos we cannot annotate. All of them only read. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { Cost } from "../policy/limits/rate-limits.ts";

export interface ForeignFacts {
  /** Undefined means that calls are never limited. */
  readonly cost: Cost | undefined;
  /** Whether every caller gets an answer: without a credential, whatever the settings say, and also while the server drains. */
  readonly isForEverybody: boolean;
}

const REFLECTION: ForeignFacts = { cost: "read", isForEverybody: false };

const SERVICES: Readonly<Record<string, ForeignFacts>> = {
  // Load balancers have no credential, and must learn that a node drains. A load balancer that gets no answer removes the node.
  "grpc.health.v1.Health": { cost: undefined, isForEverybody: true },
  "grpc.reflection.v1.ServerReflection": REFLECTION,
  "grpc.reflection.v1alpha.ServerReflection": REFLECTION,
};

/** Undefined for rpcs of our own. */
export function foreignFacts({ parent }: DescMethod): ForeignFacts | undefined {
  return SERVICES[parent.typeName];
}
