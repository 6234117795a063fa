/** The thread that owns the control store's file: a slow fsync stops this thread and no stream. */
import { serveThread } from "../thread.io.ts";
import { ControlFile, type ControlFileOptions } from "./file.io.ts";

serveThread((options: ControlFileOptions) => new ControlFile(options));
