package producer

import (
	"fmt"
	"net/http"

	"github.com/resosync/resosync/entityevent"
	"github.com/resosync/resosync/entityevent/metadata"
	"github.com/resosync/resosync/entityevent/odata"
)

// faults are what is wrong with a record that is put, or with members that are merged into one.
func (s *Schema) faults(resource string, op entityevent.Op, body []byte) ([]metadata.Fault, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if op == entityevent.Merge {
		return s.model.ValidateChange(resource, body)
	}
	return s.model.Validate(resource, body)
}

// maxDetails is how many wrong fields a refusal names: a body has room for very many.
const maxDetails = 100

// validate returns an *odata.Error with a detail for each wrong field.
func (s *Schema) validate(resource string, op entityevent.Op, body []byte) error {
	faults, err := s.faults(resource, op, body)
	if err != nil || len(faults) == 0 {
		return err
	}
	refusal := &odata.Error{Status: http.StatusBadRequest, Target: faults[0].Field, Message: faults[0].Reason}
	if len(faults) > 1 {
		refusal.Message = fmt.Sprintf("%d fields are wrong, see details", len(faults))
	}
	for _, f := range faults[:min(len(faults), maxDetails)] {
		refusal.Details = append(refusal.Details, odata.Detail{Code: "400", Target: f.Field, Message: f.Reason})
	}
	return refusal
}

// wrong is the refusal of a record for one field.
func wrong(field, message string) error {
	return &odata.Error{Status: http.StatusBadRequest, Target: field, Message: message,
		Details: []odata.Detail{{Code: "400", Target: field, Message: message}}}
}

// fieldType returns the type of a field, "" for one that is not known.
func (s *Schema) fieldType(resource, name string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f, _ := s.model.Field(resource, name)
	return f.Type
}

// knows says whether the key of an inferred resource is the configuration's or the Data Dictionary's.
func (s *Schema) knows(resource string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.model.KnownKey(resource)
	return ok
}
