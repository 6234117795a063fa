/** The limits of the listeners as a node has them without any setting. */
import { EDGE_FIXED, type EdgeLimits } from "../../src/server/edge/sockets.io.ts";
import { GRPC_FIXED, type GrpcLimits } from "../../src/server/grpc/listener.io.ts";
import { SETTINGS } from "./options.ts";

const maxMessageBytes = SETTINGS.limits.maxRequestBytes;

export const GRPC_LIMITS: GrpcLimits = { ...GRPC_FIXED, maxMessageBytes, ...SETTINGS.server };
export const EDGE_LIMITS: EdgeLimits = { ...EDGE_FIXED, maxMessageBytes, maxConnections: SETTINGS.server.maxConnections };
