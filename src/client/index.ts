/** The client's public door. */
export { type ConnectOptions, connect, type TlsFiles } from "./channel.io.ts";
export { type CallOptions, Client } from "./client.ts";
export { type FollowOptions, follow } from "./follow.io.ts";
export type { FollowEvent } from "./follow.ts";
export { RequestError, type RequestErrorFacts, type Violation } from "./request-error.ts";
