package main

import (
	"log/slog"
	"path/filepath"

	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/metrics"
	"github.com/vouchmq/vouchmq/internal/server"
)

// sight is what operators see of a development broker.
func (f *serveFlags) sight(log *slog.Logger) server.Sight {
	s := server.Sight{
		Metrics: metrics.Config{Address: f.metrics}, Sys: metrics.SysConfig{Interval: metrics.DefaultSysInterval}, Version: version, Level: &f.level,
	}
	switch f.adminSocket {
	case "-":
	case "":
		s.Admin.Socket = filepath.Join(f.state, admin.SocketFile)
		if len(s.Admin.Socket) > admin.MaxSocketPath {
			log.Warn("no administration: the path of the folder is too long for a socket; choose one with --admin-socket", "folder", f.state)
			s.Admin.Socket = ""
		}
	default:
		s.Admin.Socket = f.adminSocket
	}
	return s
}
