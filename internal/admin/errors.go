package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// Code tells kinds of failure apart, for programs.
type Code string

// The codes.
const (
	BadRequest  Code = "bad_request" // a parameter or the body makes no sense
	NotFound    Code = "not_found"   // there is no such path, client or connection
	BadMethod   Code = "bad_method"  // this path wants another method
	Unavailable Code = "unavailable" // this broker cannot do that
	Refused     Code = "refused"     // the broker did not do it: the message says why
	Busy        Code = "busy"        // the core did not answer in time
)

// Error is an answer that says no.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is compare codes.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code && other.Message == ""
}

var statusOfCode = map[Code]int{
	BadRequest: http.StatusBadRequest, NotFound: http.StatusNotFound, BadMethod: http.StatusMethodNotAllowed,
	Unavailable: http.StatusNotImplemented, Refused: http.StatusUnprocessableEntity, Busy: http.StatusServiceUnavailable,
}

// errorOf makes an Error of what went wrong.
func errorOf(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, ErrUnavailable):
		return &Error{Unavailable, err.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errSlow):
		return &Error{Busy, "the broker's core did not answer in time: try again"}
	}
	return &Error{Refused, err.Error()}
}

// errorBody is how an Error travels.
type errorBody struct {
	Error *Error `json:"error"`
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only if the other side is gone
}
