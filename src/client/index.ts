/** The public exports of the package. */

// These are the request and response messages. Other messages are in `waymark/gen/*`.
export * from "../../gen/waymark/catalog/v1/delta_pb.js";
export * from "../../gen/waymark/catalog/v1/entry_pb.js";
export * from "../../gen/waymark/catalog/v1/peer_pb.js";
export * from "../../gen/waymark/catalog/v1/summary_pb.js";
export * from "../../gen/waymark/catalog/v1/viewer_pb.js";
export * from "../../gen/waymark/catalog/v1/watch_pb.js";
export * from "../../gen/waymark/discovery/v1/discovery_pb.js";
export * from "../../gen/waymark/discovery/v1/summary_pb.js";
export type { FollowEvent, RemovalCause } from "../consumer/watch-follower.ts";
export { compareFences, FENCE_METADATA, type FenceToken, parseFence } from "../lib/fence.ts";
export type { CallOptions, SummaryCallOptions } from "./calls.ts";
export { Client, type ServiceClient } from "./client.ts";
export { connect } from "./connect.io.ts";
export type { ClusterAccess, ConnectOptions, TlsFiles } from "./connect-options.ts";
export { type FollowOptions, follow } from "./follow.io.ts";
export type { LeaderTerm, LeadOptions } from "./lead.io.ts";
export type { Choice, ResolveOptions } from "./live/choice.ts";
export type { CountsOfName, Freshness, LiveChange } from "./live/live-entries.ts";
export type { LatencyHistogram, NameStats } from "./live/named-entries.ts";
export type { LiveMap, WatchOptions, WatchRequest } from "./live/watch.io.ts";
export type { Query, QueryRequest } from "./query.io.ts";
export type { InstanceReport, RegisterOptions, RegistrationEvent, RegistrationHandle } from "./register.io.ts";
export { RequestError, type RequestErrorFacts, type Violation } from "./request-error.ts";
export type { PendingShard, ShardTerm } from "./shards/owned-shards.ts";
export type { ShardClient, ShardsOptions } from "./shards/shard-client.io.ts";
export { type ShardCallError, wrongEpoch, wrongEpochShard } from "./shards/shard-errors.io.ts";
export type { OwnOptions, ShardOwnership } from "./shards/shard-ownership.io.ts";
export { SHARD_METADATA, type ShardRoute } from "./shards/shard-routes.ts";
